//! "Did you mean": the nearest of some names.

use std::cmp::Reverse;

/// The candidate nearest to `name`, if one is near enough to be what was meant. Case and the
/// choice between `_` and `-` do not count; of equally near candidates the one with the longest
/// beginning in common is taken, of these the first.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let fold = |s: &str| s.to_lowercase().replace('_', "-");
    let name = fold(name);
    let length = name.chars().count();
    // The distance is quadratic in the lengths, and no real name is this long.
    if length > 100 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| {
            let folded = fold(candidate);
            let longest = length.max(folded.chars().count());
            let pairs = name.chars().zip(folded.chars());
            let common = pairs.take_while(|(a, b)| a == b).count();
            let distance = strsim::damerau_levenshtein(&name, &folded);
            (distance, common, longest, candidate)
        })
        // A third of the letters may be wrong, but never all of them.
        .filter(|&(distance, _, longest, _)| distance <= longest.div_ceil(3) && distance < length)
        .min_by_key(|&(distance, common, ..)| (distance, Reverse(common)))
        .map(|(.., candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn names_the_nearest_within_reason() {
        let names = ["per-channel", "reduce-range", "mode", "nodes"];
        assert_eq!(nearest("per-chanel", names), Some("per-channel"));
        assert_eq!(nearest("Per_Channel", names), Some("per-channel"));
        assert_eq!(nearest("node", names), Some("nodes"));
        assert_eq!(nearest("zzz", names), None);
        assert_eq!(nearest("x", ["a"]), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), names), None);
    }
}
