//! Texts: templates, encodings, what a terminal is shown.

mod duration;
pub(crate) mod encoding;
pub(crate) mod escape;
pub(crate) mod placeholders;
mod plural;
pub(crate) mod template;

pub(crate) use duration::duration;
pub(crate) use plural::plural;
