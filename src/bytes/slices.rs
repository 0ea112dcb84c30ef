//! Two slices as one text.

/// What is left of two slices without their first `n` bytes.
pub(crate) fn cut([first, second]: [&[u8]; 2], n: usize) -> [&[u8]; 2] {
    match n.checked_sub(first.len()) {
        None => [&first[n..], second],
        Some(n) => [&second[n..], &[]],
    }
}

/// The first `n` bytes of two slices.
pub(crate) fn limit([first, second]: [&[u8]; 2], n: usize) -> [&[u8]; 2] {
    let in_first = n.min(first.len());
    let in_second = (n - in_first).min(second.len());
    [&first[..in_first], &second[..in_second]]
}
