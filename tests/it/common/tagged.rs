//! Messages with the tag that `--tag` puts in front of them.

use jiff::Zoned;

/// The local time as it stands in a tag.
pub(crate) fn now() -> String {
    Zoned::now().strftime("%m%d %H:%M:%S").to_string()
}

/// The sender and the text of a message tagged as `MMDD HH:MM:SS From SENDER. msg=TEXT`, not
/// before a time and not after now.
#[track_caller]
pub(crate) fn untagged<'a>(message: &'a str, since: &str) -> (&'a str, &'a str) {
    let (time, rest) = message.split_at_checked(13).expect("it has a time");
    let now = now();
    // At the turn of the year the order is another one.
    let between = since <= time && time <= now.as_str() || since > now.as_str();
    assert!(between, "{message} between {since} and {now}");
    let rest = rest.strip_prefix(" From ").expect("the sender follows");
    rest.split_once(". msg=").expect("the text follows")
}
