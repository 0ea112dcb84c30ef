//! A check of JSON against a schema (JSON Schema 2020-12), for tests alone: of those keywords that
//! the schema of `load --json` uses. Any other keyword is a panic, so that none is passed over.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The one pattern that is understood: a timestamp of RFC 3339 in UTC.
const TIMESTAMP: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$";

/// Checks `value` against the schema of `load --json`; the error names the keyword and the place.
pub(crate) fn check(value: &Value) -> Result<(), String> {
    let text = include_str!("../../tests/data/load.schema.json");
    let schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    assert_understood(&schema);
    Schema { root: &schema }.check(&schema, value, "")
}

/// A schema, which `$ref` refers to.
#[derive(Clone, Copy)]
struct Schema<'a> {
    root: &'a Value,
}

impl<'a> Schema<'a> {
    /// Checks a value at `path` against a part of the schema.
    fn check(self, part: &Value, value: &Value, path: &str) -> Result<(), String> {
        let part = object(part);
        for (keyword, argument) in part {
            match keyword.as_str() {
                "$ref" => self.check(self.referred(argument), value, path)?,
                "properties" => self.check_properties(object(argument), value, path)?,
                "items" => self.check_items(argument, value, path)?,
                "if" => self.check_condition(part, value, path)?,
                "oneOf" => self.check_one_of(argument, value, path)?,
                _ if holds(keyword, argument, part, value) => {}
                _ => return Err(format!("{keyword} {argument} at {path}/: {value}")),
            }
        }
        Ok(())
    }

    fn referred(self, name: &Value) -> &'a Value {
        let name = name.as_str().and_then(|name| name.strip_prefix("#/$defs/"));
        &self.root["$defs"][name.expect("it refers to a definition")]
    }

    fn check_properties(
        self,
        properties: &Map<String, Value>,
        value: &Value,
        path: &str,
    ) -> Result<(), String> {
        for (name, part) in properties {
            if let Some(property) = value.get(name) {
                self.check(part, property, &format!("{path}/{name}"))?;
            }
        }
        Ok(())
    }

    fn check_items(self, part: &Value, value: &Value, path: &str) -> Result<(), String> {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(part, item, &format!("{path}/{index}"))?;
        }
        Ok(())
    }

    fn check_condition(
        self,
        part: &Map<String, Value>,
        value: &Value,
        path: &str,
    ) -> Result<(), String> {
        let applies = self.check(&part["if"], value, path).is_ok();
        let branch = if applies { "then" } else { "else" };
        self.check(&part[branch], value, path)
    }

    fn check_one_of(self, parts: &Value, value: &Value, path: &str) -> Result<(), String> {
        let checked = array(parts)
            .iter()
            .map(|part| self.check(part, value, path));
        let (fits, errors): (Vec<_>, Vec<_>) = checked.partition(Result::is_ok);
        match fits.len() {
            1 => Ok(()),
            count => Err(format!("{count} of oneOf at {path}/: {errors:?}")),
        }
    }
}

/// True if a keyword that looks at no other value and no other schema holds.
fn holds(keyword: &str, argument: &Value, part: &Map<String, Value>, value: &Value) -> bool {
    let at_least = |count: usize| Some(count as u64) >= argument.as_u64();
    let properties = |value: &Value| value.as_object().cloned().unwrap_or_default();
    match keyword {
        "type" if argument.is_array() => array(argument).iter().any(|name| is_of(name, value)),
        "type" => is_of(argument, value),
        "enum" => array(argument).contains(value),
        "const" => argument == value,
        "minimum" => value.as_f64().is_none_or(|n| Some(n) >= argument.as_f64()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|n| Some(n) > argument.as_f64()),
        "minLength" => value.as_str().is_none_or(|s| at_least(s.chars().count())),
        "minItems" => value.as_array().is_none_or(|items| at_least(items.len())),
        "maxItems" => value
            .as_array()
            .is_none_or(|items| Some(items.len() as u64) <= argument.as_u64()),
        "pattern" => value.as_str().is_none_or(is_timestamp),
        "required" => array(argument)
            .iter()
            .all(|name| !value.is_object() || value.get(text(name)).is_some()),
        "additionalProperties" => properties(value)
            .keys()
            .all(|name| part["properties"].get(name).is_some()),
        // Read by others: the names of the schema, and the branches of `if`.
        _ => matches!(keyword, "$schema" | "title" | "$defs" | "then" | "else"),
    }
}

fn is_of(name: &Value, value: &Value) -> bool {
    match text(name) {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other}"),
    }
}

/// True if a text matches [`TIMESTAMP`] and is a time that exists.
fn is_timestamp(text: &str) -> bool {
    let (seconds, fraction) = text.split_at_checked(19).unwrap_or_default();
    let shape = seconds.replace(|c: char| c.is_ascii_digit(), "0");
    let fraction = fraction.strip_suffix('Z');
    let is_fraction = |digits: &str| {
        (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    shape == "0000-00-00T00:00:00"
        && fraction.is_some_and(|f| f.is_empty() || f.strip_prefix('.').is_some_and(is_fraction))
        && text.parse::<Timestamp>().is_ok()
}

/// Panics at a keyword that [`Schema::check`] does not know, anywhere in the schema.
fn assert_understood(part: &Value) {
    for (keyword, argument) in object(part) {
        match keyword.as_str() {
            "properties" | "$defs" => object(argument).values().for_each(assert_understood),
            "items" | "if" | "then" | "else" => assert_understood(argument),
            "oneOf" => array(argument).iter().for_each(assert_understood),
            "pattern" => assert_eq!(argument, TIMESTAMP),
            "additionalProperties" => assert_eq!(argument, false),
            "minimum" | "exclusiveMinimum" => assert!(argument.is_number()),
            "minLength" | "minItems" | "maxItems" => assert!(argument.is_u64()),
            "type" | "enum" | "const" | "required" | "$ref" | "$schema" | "title" => {}
            other => panic!("the keyword {other} is not understood"),
        }
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("it is an object of the schema")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("it is an array of the schema")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("it is a string of the schema")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn assert_tells_apart(schema: &Value, right: &[Value], wrong: &[Value]) {
        assert_understood(schema);
        let check = |value: &Value| Schema { root: schema }.check(schema, value, "");
        for value in right {
            assert_eq!(check(value), Ok(()), "{value}");
        }
        for value in wrong {
            assert!(check(value).is_err(), "{value}");
        }
    }

    #[test]
    fn each_keyword_of_a_value_refuses_a_wrong_one() {
        let right_and_wrong = [
            (json!({"type": "integer"}), json!(1), json!(1.5)),
            (json!({"type": ["string", "null"]}), json!(null), json!(1)),
            (json!({"type": "boolean"}), json!(true), json!("true")),
            (json!({"enum": ["a", "b"]}), json!("b"), json!("c")),
            (json!({"const": true}), json!(true), json!(false)),
            (json!({"minimum": 1}), json!(1), json!(0.5)),
            (json!({"exclusiveMinimum": 1}), json!(1.5), json!(1)),
            (json!({"minLength": 1}), json!("x"), json!("")),
            (json!({"minItems": 1}), json!([0]), json!([])),
            (json!({"maxItems": 0}), json!([]), json!([0])),
            (json!({"required": ["a"]}), json!({"a": 1}), json!({"b": 1})),
        ];
        for (schema, right, wrong) in right_and_wrong {
            assert_tells_apart(&schema, &[right], &[wrong]);
        }
    }

    #[test]
    fn properties_and_items_are_checked_at_any_depth() {
        let schema = json!({
            "properties": { "a": { "items": { "$ref": "#/$defs/count" } } },
            "additionalProperties": false,
            "$defs": { "count": { "type": "integer" } }
        });
        let right = [json!({}), json!({"a": []}), json!({"a": [1, 2]})];
        let wrong = [json!({"b": 1}), json!({"a": [1, "2"]})];
        assert_tells_apart(&schema, &right, &wrong);
    }

    #[test]
    fn a_condition_chooses_the_branch_and_one_of_wants_exactly_one() {
        let schema = json!({
            "if": { "const": true },
            "then": { "type": "boolean" },
            "else": { "oneOf": [{ "minimum": 1 }, { "type": "string" }] }
        });
        // A minimum holds for a string, too, which then fits both.
        let (right, wrong) = ([json!(true), json!(1)], [json!(0), json!("x")]);
        assert_tells_apart(&schema, &right, &wrong);
    }

    #[test]
    fn timestamps_are_of_utc_and_exist() {
        let schema = json!({ "pattern": TIMESTAMP });
        let right = ["2026-11-21T09:30:00Z", "2026-11-21T09:30:00.123456789Z"];
        let wrong = [
            "2026-11-21T09:30:00",
            "2026-11-21T09:30:00.Z",
            "2026-11-21T09:30:00.1234567890Z",
            "2026-11-21 09:30:00Z",
            "2026-11-21T09:30:00+01:00",
            "2026-13-21T09:30:00Z",
            "x2026-11-21T09:30:00Z",
            "",
        ];
        assert_tells_apart(&schema, &right.map(Value::from), &wrong.map(Value::from));
    }

    #[test]
    #[should_panic(expected = "the keyword maximum is not understood")]
    fn an_unknown_keyword_is_not_passed_over() {
        assert_understood(&json!({ "properties": { "a": { "maximum": 1 } } }));
    }
}
