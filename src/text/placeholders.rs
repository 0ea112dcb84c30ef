//! Tokens of texts with placeholders, as users write them: `{peer}`, and `{{` for a brace.

use super::escape::escape;

/// A token of such a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A character; a doubled brace is one.
    Char(char),
    /// The name between two braces.
    Placeholder(&'a str),
}

/// Takes the first token off a text; `None` at its end.
///
/// # Errors
/// A message for the user about a brace without its counterpart.
pub(crate) fn next<'a>(rest: &mut &'a str) -> Result<Option<Token<'a>>, &'static str> {
    let text = *rest;
    let Some(first) = text.chars().next() else {
        return Ok(None);
    };
    let doubled = text.starts_with("{{") || text.starts_with("}}");
    if first == '}' && !doubled {
        return Err("a '}' without its '{' (a brace is '}}')");
    }
    if first != '{' || doubled {
        *rest = &text[first.len_utf8() + usize::from(doubled)..];
        return Ok(Some(Token::Char(first)));
    }
    let (name, after) = text[1..]
        .split_once('}')
        .ok_or("a '{' without its '}' (a brace is '{{')")?;
    *rest = after;
    Ok(Some(Token::Placeholder(name)))
}

/// An error message about a placeholder that is not one of `names`.
pub(crate) fn unknown<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("{{{n}}}")).collect();
    let name = escape(name.as_bytes());
    format!("{{{name}}} is not one of {}", names.join(" "))
}
