//! Texts: templates and their placeholders, encodings, escapes for terminals, counts and durations, the local time zone.

mod duration;
pub(crate) mod encoding;
pub(crate) mod escape;
pub(crate) mod placeholders;
mod plural;
pub(crate) mod template;
pub(crate) mod zone;

pub(crate) use duration::duration;
pub(crate) use plural::plural;
