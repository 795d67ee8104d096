//! Pipeline text.

use proptest::prelude::*;

use onnxq_pass::{Item, Pipeline, Setting, Step, Value};

fn item(value: impl Into<Value>) -> Item {
    Item {
        key: None,
        value: value.into(),
    }
}

fn parse_one(text: &str) -> Step {
    let mut steps = Pipeline::parse(text).unwrap().steps;
    assert_eq!(steps.len(), 1);
    steps.pop().unwrap()
}

fn error(text: &str) -> String {
    Pipeline::parse(text).unwrap_err().to_string()
}

#[test]
fn reads_the_examples_of_the_specification() {
    let text = "preprocess,quantize{per-channel activation-type=uint8 \
                exclude-nodes=[/head/MatMul,Conv_12]},fuse";
    let pipeline = Pipeline::parse(text).unwrap();
    let names: Vec<_> = pipeline.steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["preprocess", "quantize", "fuse"]);
    let [flag, choice, list] = &pipeline.steps[1].settings[..] else {
        panic!("three settings")
    };
    assert_eq!((flag.key.as_str(), &flag.value), ("per-channel", &None));
    assert_eq!(choice.value, Some("uint8".into()));
    assert_eq!(
        list.value,
        Some(Value::List(vec![item("/head/MatMul"), item("Conv_12")]))
    );
    assert_eq!(pipeline.to_string(), text);
}

#[test]
fn reads_tables_in_every_spelling() {
    let step = parse_one(r#"p{t=[MatMul:1, "a b":2, c:[3], d: 4]}"#);
    let entry = |key: &str, value: Value| Item {
        key: Some(key.into()),
        value,
    };
    assert_eq!(
        step.settings[0].value,
        Some(Value::List(vec![
            item("MatMul:1"),
            entry("a b", "2".into()),
            entry("c", Value::List(vec![item("3")])),
            entry("d", "4".into()),
        ]))
    );
    assert_eq!(
        parse_one("p{t=[a:,b:]}").settings[0].value,
        Some(Value::List(vec![item("a:"), item("b:")]))
    );
}

#[test]
fn strings_are_json() {
    let step = parse_one(r#"p{a="x, {y}\n\"\u00e9\ud83d\ude00\\" b="" c=a"b\c=d}"#);
    let values: Vec<_> = step.settings.iter().map(|s| s.value.clone()).collect();
    assert_eq!(
        values,
        [
            Some("x, {y}\n\"é😀\\".into()),
            Some("".into()),
            Some("a\"b\\c=d".into())
        ]
    );
}

#[test]
fn white_space_is_free_between_tokens() {
    let spaced = Pipeline::parse(" a ,\n b{ x=[ 1 , 2 ]\n flag } ").unwrap();
    assert_eq!(spaced, Pipeline::parse("a,b{x=[1,2] flag}").unwrap());
    assert_eq!(Pipeline::parse("  ").unwrap(), Pipeline::default());
    assert_eq!(
        Pipeline::parse("a{}").unwrap(),
        Pipeline::parse("a").unwrap()
    );
}

#[test]
fn errors_say_what_and_where() {
    assert_eq!(
        error("a,quantize{nodes=[b}"),
        "pipeline text: expected `,` or `]` in a list, found `}` at character 20, \
         after `a,quantize{nodes=[b`"
    );
    assert_eq!(
        error(",a"),
        "pipeline text: expected the name of a pass, found `,` at character 1"
    );
    for (text, part) in [
        (
            "a,",
            "expected a pass after `,`, found the end at character 3",
        ),
        (
            "a b",
            "expected `,` between passes, found `b` at character 3",
        ),
        (
            "a{x=1,y=2}",
            "expected a space between options, or `}`, found `,`",
        ),
        (
            "a{x=",
            "expected a value (an empty one is `\"\"`), found the end",
        ),
        (
            "a{x",
            "expected a space or `}` after an option, found the end",
        ),
        (
            "a{x=\"b",
            "a string without its closing quote at character 5",
        ),
        (r#"a{x="\ud800"}"#, "is not a JSON string"),
        (r#"a{x="b"c}"#, "after a string, found `c`"),
        ("é{", "found the end at character 3"),
        ("a}", "found `}` at character 2"),
        ("a{=b}", "expected the name of an option, or `}`, found `=`"),
    ] {
        assert!(error(text).contains(part), "{text}: {}", error(text));
    }
}

#[test]
fn deep_nesting_is_an_error() {
    let nested = |n: usize| format!("a{{x={}{}}}", "[".repeat(n), "]".repeat(n));
    assert!(Pipeline::parse(&nested(64)).is_ok());
    assert!(error(&nested(65)).contains("nested more than 64 deep"));
    assert!(error(&nested(1_000_000)).contains("nested more than 64 deep"));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z/_.*-]{1,6}",
        "[ab:=\"\\\\ ,{}\\[\\]\n\t]{0,6}",
        any::<String>()
    ]
}

fn value() -> impl Strategy<Value = Value> {
    text()
        .prop_map(Value::Text)
        .prop_recursive(3, 12, 4, |inner| {
            prop::collection::vec((prop::option::of(text()), inner), 0..4).prop_map(|items| {
                let item = |(key, value)| Item { key, value };
                Value::List(items.into_iter().map(item).collect())
            })
        })
}

fn pipeline() -> impl Strategy<Value = Pipeline> {
    let setting =
        (text(), prop::option::of(value())).prop_map(|(key, value)| Setting { key, value });
    let step = (text(), prop::collection::vec(setting, 0..4))
        .prop_map(|(name, settings)| Step { name, settings });
    prop::collection::vec(step, 0..4).prop_map(|steps| Pipeline { steps })
}

proptest! {
    #[test]
    fn parse_inverts_print(p in pipeline()) {
        let text = p.to_string();
        prop_assert_eq!(Pipeline::parse(&text).unwrap(), p, "{}", text);
    }

    #[test]
    fn parse_never_panics(text in "[ab\"\\\\:=, {}\\[\\]é]{0,40}") {
        let _ = Pipeline::parse(&text);
    }
}
