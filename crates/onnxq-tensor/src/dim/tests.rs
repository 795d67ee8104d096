//! Laws of the algebra, normal forms that matter in models, and hostile text.

use proptest::prelude::*;

use super::Dim;

fn d(text: &str) -> Dim {
    Dim::parse(text)
}

/// Parses `text`, and expects `printed`.
#[track_caller]
fn prints(dim: &Dim, printed: &str) {
    assert_eq!(dim.to_string(), printed);
    assert_eq!(&Dim::parse(printed), dim, "{printed} reads back");
}

#[test]
fn constants_and_unknown() {
    assert_eq!(Dim::known(3).as_const(), Some(3));
    assert_eq!(Dim::known(3) * 4 - 2, Dim::known(10));
    assert_eq!(Dim::known(-7).floor_div(&2.into()), Dim::known(-4));
    assert_eq!(Dim::known(-7).ceil_div(&2.into()), Dim::known(-3));
    assert_eq!(Dim::known(-7).rem(&4.into()), Dim::known(1));
    assert_eq!(Dim::known(2).min(&5.into()), Dim::known(2));
    assert_eq!(Dim::known(2).max(&5.into()), Dim::known(5));
    assert_eq!(d("N") - d("N"), Dim::known(0));
    for unknown in [
        Dim::UNKNOWN + 1,
        Dim::UNKNOWN * Dim::known(0),
        d("N").max(&Dim::UNKNOWN),
        d("N").floor_div(&Dim::UNKNOWN),
        d("N").floor_div(&0.into()),
        Dim::known(1).floor_div(&0.into()),
        Dim::known(i64::MIN).floor_div(&(-1).into()),
        Dim::known(i64::MAX) + 1,
        d("N") * i64::MAX * 2,
        d("N") * i64::MIN,
    ] {
        assert!(unknown.is_unknown(), "{unknown}");
    }
    assert_eq!(Dim::default(), Dim::UNKNOWN);
    assert_eq!(d("?"), Dim::UNKNOWN);
    assert_eq!(Dim::UNKNOWN.to_string(), "?");
}

#[test]
fn polynomials_are_collected() {
    let (n, m) = (d("N"), d("M"));
    prints(&(&n + &n), "2*N");
    prints(&((&n * 2).floor_div(&2.into())), "N");
    prints(&((&n + 1) * (&n - 1)), "N**2 - 1");
    prints(&((&n + &m) * (&n - &m)), "-M**2 + N**2");
    prints(&(3 * &n * &m - 7), "3*M*N - 7");
    prints(&(2 - &n), "-N + 2");
}

#[test]
fn floor_division_is_reduced() {
    for (text, normal) in [
        ("(4*N + 2)//2", "2*N + 1"),
        ("(4*N + 3)//2", "2*N + 1"),
        ("(2*N + 1)//4", "floor(N/2)"),
        ("(H - 1)//2 + 1", "ceil(H/2)"),
        ("floor(H/2 - 1/2) + 1", "ceil(H/2)"),
        ("-((-H)//4)", "ceil(H/4)"),
        ("((H + 1)//2 + 1)//2", "ceil(H/4)"),
        ("H//2//3", "floor(H/6)"),
        ("(3*H)//4", "floor(3*H/4)"),
        ("(N - H)//3", "-ceil((H - N)/3)"),
        ("(N*S*768)//(N*S)", "768"),
        ("((N + 1)*S*C)//(S*C)", "N + 1"),
        ("((N + 1)*S*C)//((N + 1)*C)", "S"),
        ("(N*H)//(N*W)", "floor(H/W)"),
        ("(6*N)//(4*S)", "floor(3*N/(2*S))"),
        ("N//(N + 1)", "0"),
        ("(N*S + 1)//N", "S + floor(1/N)"),
        ("H//(-2)", "-ceil(H/2)"),
        ("(H%4)//4", "0"),
        ("H - H%4", "4*floor(H/4)"),
        ("(H%3 + 3)//3", "1"),
    ] {
        prints(&d(text), normal);
    }
}

#[test]
fn extrema_are_flat_and_without_losers() {
    for (text, normal) in [
        ("max(N, 1)", "max(1, N)"),
        ("max(N, max(1, M))", "max(1, M, N)"),
        ("max(N, N + 1, 1)", "N + 1"),
        ("min(N, N + 1)", "N"),
        ("max(-1, N)", "N"),
        ("max(0, N - 2)", "max(0, N - 2)"),
        ("Max(2, 3)", "3"),
        ("max(max(1, N), N)", "max(1, N)"),
        ("min(max(1, N), N)", "N"),
        ("max(H//2, H)", "H"),
    ] {
        prints(&d(text), normal);
    }
}

#[test]
fn other_text_is_one_symbol() {
    for text in [
        "batch size",
        "unk__0",
        "Concat_o0__d1",
        "é",
        "a-b!",
        "a b",
        " N",
        "N ",
        "2d",
        "1.5",
        "+5",
        "f(N)",
        "floor(N, 2)",
        "max()",
        "(a, b)",
        "a +",
        "a ** b",
        "a* *b",
        "N/0",
        "\"",
        "\\",
        "99999999999999999999",
        "9223372036854775807*2",
        "N**99",
        "a?",
        "((a)",
        "a)",
        "\t",
        "-2**2",
    ] {
        let dim = d(text);
        assert_eq!(dim.is_symbol(), Some(text));
        prints(&dim, text);
    }
    prints(&(d("batch size") * 2 + 1), "2*\"batch size\" + 1");
    prints(&Dim::symbol("a+b"), "\"a+b\"");
    prints(&Dim::symbol("5"), "\"5\"");
    prints(&Dim::symbol("?"), "\"?\"");
    prints(&Dim::symbol(""), "\"\"");
    prints(&Dim::symbol("\"N\""), "\"\\\"N\\\"\"");
    prints(&(Dim::symbol("max") * 2), "2*max");
    prints(&d("past + seq"), "past + seq");
}

#[test]
fn hostile_text_is_harmless() {
    let deep = "(".repeat(100_000) + &")".repeat(100_000);
    let sum = "a+".repeat(100_000) + "a";
    let wide = (0..10_000)
        .map(|i| format!("a{i}"))
        .collect::<Vec<_>>()
        .join("+");
    let floors = "floor(M/(1 + ".repeat(30) + "N" + &"))".repeat(30);
    let product = vec!["(a+b+c+d)"; 5000].join("*");
    let names: Vec<String> = (0..300).map(|i| format!("a{i}")).collect();
    let widest = format!("max({})", names.join(", "));
    for text in [
        &deep,
        &sum,
        &wide,
        &floors,
        &product,
        &widest,
        &"-".repeat(100_000),
    ] {
        assert_eq!(d(text).is_symbol(), Some(text.as_str()));
    }
    assert_eq!(d(&("-".repeat(2000) + "N")), d("N"));
}

#[test]
fn growth_ends_in_unknown() {
    let mut doubled = d("N");
    let mut nested = d("N");
    let mut wide = d("N");
    for i in 0..200 {
        doubled = &doubled * &doubled + d("M");
        nested = (&nested * d("M") + d("K"))
            .floor_div(&(&nested + 2))
            .max(&d("L"));
        wide = wide.max(&(d(&format!("a{i}")) * &wide));
    }
    assert!(doubled.is_unknown() && nested.is_unknown() && wide.is_unknown());
}

#[test]
fn bounds() {
    for (text, low, high) in [
        ("N", Some(0), None),
        ("N + 1", Some(1), None),
        ("3 - N*M", None, Some(3)),
        ("max(1, N)", Some(1), None),
        ("min(4, N)", Some(0), Some(4)),
        ("H%4", Some(0), Some(3)),
        ("H - H//2", Some(0), None),
        ("H - (H + 1)//2 + 1", Some(1), None),
        ("max(1, N) - N", Some(0), None),
        ("floor(N/(M + 1))", Some(0), None),
        ("-5", Some(-5), Some(-5)),
        ("?", None, None),
    ] {
        assert_eq!(
            (d(text).lower_bound(), d(text).upper_bound()),
            (low, high),
            "{text}"
        );
    }
    assert!(d("N + 1").known_positive() && !d("N").known_positive());
    assert!(d("N + 2").provably_ne(&1.into()) && !d("N + 1").provably_ne(&1.into()));
    assert!(d("N + 2").provably_ne(&d("N")));
    assert!(!Dim::UNKNOWN.provably_ne(&1.into()));
}

#[test]
fn symbols_and_substitution() {
    let dim = d("floor(N*H/S) + max(1, N) + K**2");
    assert_eq!(dim.symbols(), ["H", "K", "N", "S"]);
    let bound = dim.substitute(|name| (name == "N").then(|| Dim::symbol("S") * 2));
    prints(&bound, "K**2 + 2*H + max(1, 2*S)");
    assert_eq!(dim.eval(|name| (name != "N").then_some(3)), None);
    assert_eq!(dim.eval(|_| Some(3)), Some(15));
    assert_eq!(d("7//N").eval(|_| Some(0)), None);
    assert_eq!(d("N").is_symbol(), Some("N"));
    assert_eq!(d("2*N").is_symbol(), None);
    assert_eq!(d("7").symbols(), [""; 0]);
}

/// Expressions small enough not to reach any limit.
fn dims() -> impl Strategy<Value = Dim> {
    let leaf = prop_oneof![
        (-9i64..10).prop_map(Dim::known),
        prop_oneof![
            Just("N"),
            Just("H"),
            Just("batch size"),
            Just("a+b"),
            Just("x.1"),
            Just("é")
        ]
        .prop_map(Dim::symbol),
    ];
    leaf.prop_recursive(3, 12, 2, |of| {
        (0..7, of.clone(), of, 1i64..7).prop_map(|(op, a, b, c)| match op {
            0 => a + b,
            1 => a - b,
            2 => a * b,
            3 => a.floor_div(&c.into()),
            4 => a.ceil_div(&(b * c)),
            5 => a.min(&b),
            _ => a.max(&b),
        })
    })
}

fn values(name: &str) -> Option<i64> {
    Some(name.len() as i64 * 7 % 5 + 2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn text_reads_back(a in dims(), name in "\\PC{0,8}", text in "[-+*/%(),. NHmaxflor\"2]{0,12}") {
        for dim in [a, Dim::symbol(&name), Dim::symbol(&name) * 3 + 1, Dim::parse(&name),
            Dim::parse(&text), Dim::symbol(&text) + 1] {
            prop_assert_eq!(&Dim::parse(&dim.to_string()), &dim);
        }
    }

    #[test]
    fn ring_laws(a in dims(), b in dims(), c in dims()) {
        let sums = [&a + (&b + &c), (&a + &b) + &c, &c + (&b + &a), &a - (-&b) + &c];
        prop_assume!(sums.iter().all(|d| !d.is_unknown()));
        prop_assert!(sums.iter().all(|d| d == &sums[0]), "{:?}", sums);
        let products = [&a * (&b * &c), (&a * &b) * &c, &c * (&b * &a)];
        prop_assume!(products.iter().all(|d| !d.is_unknown()));
        prop_assert!(products.iter().all(|d| d == &products[0]), "{:?}", products);
        prop_assert_eq!(&a * (&b + &c), &a * &b + &a * &c);
        prop_assert_eq!(&a - &a, Dim::known(0));
        prop_assert_eq!(&a * 1 + 0, a);
    }

    #[test]
    fn operations_agree_with_integers(a in dims(), b in dims()) {
        let (Some(x), Some(y)) = (a.eval(values), b.eval(values)) else { return Ok(()) };
        let check = |dim: Dim, value: Option<i64>| {
            prop_assert!(dim.is_unknown() || value.is_none() || dim.eval(values) == value,
                "{dim} is {:?}, not {value:?}", dim.eval(values));
            Ok(())
        };
        check(&a + &b, x.checked_add(y))?;
        check(&a * &b, x.checked_mul(y))?;
        check(a.min(&b), Some(x.min(y)))?;
        check(a.max(&b), Some(x.max(y)))?;
        // A divisor may be taken to be neither zero nor, if made of sizes, negative.
        if b.as_const().is_some() || b.provably_ge(0) {
            check(a.floor_div(&b), super::floor_div(x, y))?;
            check(a.ceil_div(&b), super::floor_div(-x, y).map(|q| -q))?;
        }
        check(a.rem(&5.into()), Some(x.rem_euclid(5)))?;
        prop_assert!(a.lower_bound().is_none_or(|low| low <= x), "{a}");
        prop_assert!(a.upper_bound().is_none_or(|high| high >= x), "{a}");
    }

    #[test]
    fn substitution_and_evaluation_commute(a in dims(), b in dims()) {
        let constants = a.substitute(|name| values(name).map(Dim::known));
        if let (Some(value), Some(expected)) = (constants.as_const(), a.eval(values)) {
            prop_assert_eq!(value, expected);
        }
        prop_assert_eq!(a.substitute(|_| None), a.clone());
        let inner = a.substitute(|name| (name == "N").then(|| b.clone()));
        let n = b.eval(values);
        if let (false, Some(n), Some(value)) = (inner.is_unknown(), n, inner.eval(values)) && n >= 0 {
            let outer = a.eval(|name| if name == "N" { Some(n) } else { values(name) });
            prop_assert!(outer.is_none_or(|o| o == value), "{a} [N = {b}]: {inner}");
        }
    }

    #[test]
    fn division_takes_out_exact_parts(
        (p, q, r, s) in (0i64..9, 0i64..9, 0i64..9, 0i64..9), c in 1i64..9,
    ) {
        let (n, h) = (Dim::symbol("N"), Dim::symbol("H"));
        let (x, y) = (&n * p + &h * q + r, &n * s + &h * r);
        let c = Dim::known(c);
        prop_assert_eq!((&x + &y * &c).floor_div(&c), x.floor_div(&c) + &y);
        prop_assert_eq!((&y * &c).ceil_div(&c), y.clone());
        prop_assert_eq!((&x * &c).floor_div(&(&c * 3)), x.floor_div(&3.into()));
        prop_assert_eq!(x.floor_div(&c).floor_div(&2.into()), x.floor_div(&(&c * 2)));
        prop_assert_eq!(-(-&x).floor_div(&c), x.ceil_div(&c));
        let b = &n + &h * 2 + 1;
        prop_assert_eq!((&b * &x).floor_div(&b), x);
    }
}
