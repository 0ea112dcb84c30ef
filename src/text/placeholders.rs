//! Texts with places in braces, as users write them: `{peer}`, `{{` for a brace.

/// A part of such a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A letter, which may have stood there twice.
    Char(char),
    /// What stood in braces.
    Placeholder(&'a str),
}

/// Takes the first piece off a text.
///
/// # Errors
/// A brace without its other one, in words.
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
    let (place, after) = text[1..]
        .split_once('}')
        .ok_or("a '{' without its '}' (a brace is '{{')")?;
    *rest = after;
    Ok(Some(Token::Placeholder(place)))
}

/// What to say of a place that there isn't.
pub(crate) fn unknown<'a>(place: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("{{{n}}}")).collect();
    let place = place.escape_debug();
    format!("{{{place}}} is not one of {}", names.join(" "))
}
