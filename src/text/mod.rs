//! Texts: templates, encodings, what a terminal is shown.

pub(crate) mod encoding;
pub(crate) mod escape;
pub(crate) mod placeholders;
mod plural;
pub(crate) mod template;

pub(crate) use plural::plural;
