//! Counts with their noun.

/// A count with its noun, such as `1 client` and `2 clients`.
pub(crate) fn plural(count: u64, thing: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{ending}")
}
