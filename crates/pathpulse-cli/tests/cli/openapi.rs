//! The OpenAPI document, compared with the daemon's answers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::common::{Daemon, PATIENCE, plain_file};

/// Sends a request, and returns the answer's status and body.
fn ask(socket: &Path, method: &str, target: &str, body: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let length = body.len();
    let request = format!("{method} {target} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    (head[9..12].to_owned(), body.to_owned())
}

/// Fails unless the value matches the schema, without extra fields.
fn hold(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(&name[1..]).expect("a schema");
        return hold(document, schema, value, place);
    }
    if let Some(all) = schema["oneOf"].as_array() {
        let fitting = all
            .iter()
            .find(|schema| (schema["type"] == "null") == value.is_null());
        return hold(document, fitting.expect("one fits"), value, place);
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() && !types.contains(&"number".into()) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(
        types.contains(&kind.into()),
        "{place}: {value} is no {types:?}"
    );
    if let Some(known) = schema["enum"].as_array() {
        assert!(known.contains(value), "{place}: {value}");
    }
    for item in value.as_array().into_iter().flatten() {
        hold(document, &schema["items"], item, place);
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        let names = fields.keys().collect::<BTreeSet<_>>();
        assert_eq!(names, properties.keys().collect(), "{place}");
        for (name, field) in fields {
            hold(
                document,
                &properties[name],
                field,
                &format!("{place}.{name}"),
            );
        }
    }
}

#[test]
fn every_answer_matches_the_document() {
    let file = plain_file(1 << 16);
    let name = file.path().to_str().expect("text");
    let daemon = Daemon::start(&[file.path(), Path::new("/nowhere")], &[]);
    daemon.wait_state(file.path(), "up");
    let (status, text) = ask(&daemon.socket, "GET", "/openapi.json", "");
    assert_eq!(status, "200");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let order = json!({ "paths": [name] }).to_string();
    let paths = document["paths"].as_object().expect("an object");
    // The request that ends the daemon comes last.
    let (last, others): (Vec<_>, Vec<_>) = paths.iter().partition(|(path, _)| *path == "/v1/stop");
    for (path, operations) in others.into_iter().chain(last) {
        let target = path.replace("{name}", &name.replace('/', "%2F"));
        for (method, operation) in operations.as_object().expect("an object") {
            let needs = operation["parameters"].as_array().into_iter().flatten();
            let query = needs.filter(|need| need["in"] == "query" && need["required"] == true);
            let query: String = query.map(|_| format!("?path={name}")).collect();
            let body = if operation["requestBody"].is_null() {
                ""
            } else {
                &order
            };
            let target = format!("{target}{query}");
            let (status, answer) = ask(&daemon.socket, &method.to_uppercase(), &target, body);
            let documented = &operation["responses"][&status];
            assert!(!documented.is_null(), "{method} {path}: {status} {answer}");
            let schema = &documented["content"]["application/json"]["schema"];
            if !schema.is_null() {
                let answer: Value = serde_json::from_str(&answer).expect("JSON");
                hold(&document, schema, &answer, path);
            }
        }
    }
}
