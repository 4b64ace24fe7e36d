//! The description of the API (OpenAPI 3.1), made of the table of calls.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter as Described, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApiBuilder, PathItem, PathsBuilder, Ref, RefOr,
    Required, ResponseBuilder,
};

use super::super::parameter::{Form, Necessity, Parameter};
use super::table::CALLS;
use super::{Call, Content, Document, Kind, Method, Presence, documents};

/// Made once: it does not change while the process runs.
static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    let mut components = Components::default();
    components.add(&documents::ERROR);
    let mut paths = PathsBuilder::new();
    for call in CALLS {
        let path = call.path.replace("{*", "{");
        let item = PathItem::new(method(call.method), operation(call, &mut components));
        // A path that stands there already gets one more operation.
        paths = paths.path(path, item);
    }
    let schemas = components.0.into_iter();
    let info = InfoBuilder::new()
        .title("raftkv")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A distributed key-value store. Every answer carries the header fields Raftkv-Cluster-Id, Raftkv-Node-Id, \
             Raftkv-Term, Raftkv-Revision and Raftkv-History-Epoch. Every error is an Error object; its code is stable.",
        ));
    let description = OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(ComponentsBuilder::new().schemas_from_iter(schemas).build()))
        .build();
    description.to_json().expect("plain data")
});

/// The description, as JSON.
pub(in crate::http) fn description() -> &'static str {
    &DESCRIPTION
}

/// The schemas that were used, each under its name.
#[derive(Default)]
struct Components(BTreeMap<&'static str, Schema>);

impl Components {
    /// Refers to a document, and takes it in with all that it holds.
    fn add(&mut self, document: &'static Document) -> RefOr<Schema> {
        if !self.0.contains_key(document.name) {
            // First, for documents that hold themselves.
            self.0
                .insert(document.name, Schema::Object(ObjectBuilder::new().build()));
            let mut object = ObjectBuilder::new().schema_type(Type::Object);
            for field in document.fields {
                object = object.property(field.name, self.field(field.kind, field.about));
                if field.presence == Presence::Always {
                    object = object.required(field.name);
                }
            }
            self.0.insert(document.name, Schema::Object(object.build()));
        }
        RefOr::Ref(Ref::from_schema_name(document.name))
    }

    fn field(&mut self, kind: Kind, about: &'static str) -> RefOr<Schema> {
        let plain = |kind: Type| plain(kind.into(), about);
        match kind {
            Kind::Text => plain(Type::String),
            Kind::Whole => plain(Type::Integer),
            Kind::Number => plain(Type::Number),
            Kind::Flag => plain(Type::Boolean),
            Kind::PerhapsText => self::plain(SchemaType::Array(vec![Type::String, Type::Null]), about),
            Kind::Word(words) => words_schema(words, about),
            Kind::Object(document) => self.add(document),
            Kind::List(document) => {
                let items = ArrayBuilder::new().items(self.add(document));
                items.description(Some(about)).build().into()
            }
            Kind::Texts => {
                let items = ArrayBuilder::new().items(self::plain(Type::String.into(), "One."));
                items.description(Some(about)).build().into()
            }
            Kind::Perhaps(document) => {
                let null = ObjectBuilder::new().schema_type(Type::Null).build();
                let either = OneOfBuilder::new().item(self.add(document)).item(null);
                RefOr::T(Schema::OneOf(either.description(Some(about)).build()))
            }
        }
    }
}

fn plain(kind: SchemaType, about: &'static str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(kind);
    object.description(Some(about)).build().into()
}

fn words_schema(words: &'static [&'static str], about: &'static str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::String);
    let object = object.enum_values(Some(words.iter().copied()));
    object.description(Some(about)).build().into()
}

fn method(method: Method) -> HttpMethod {
    match method {
        Method::Get => HttpMethod::Get,
        Method::Post => HttpMethod::Post,
        Method::Put => HttpMethod::Put,
        Method::Delete => HttpMethod::Delete,
    }
}

fn operation(call: &Call, components: &mut Components) -> OperationBuilder {
    let mut operation = OperationBuilder::new().summary(Some(call.about));
    for name in path_parameters(call.path) {
        let path = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path);
        let schema = plain(Type::String.into(), "Percent-encoded.");
        operation = operation.parameter(path.required(Required::True).schema(Some(schema)));
    }
    for parameter in call.parameters {
        operation = operation.parameter(query_parameter(parameter));
    }
    for header in call.headers {
        let parameter = ParameterBuilder::new()
            .name(header.name)
            .parameter_in(ParameterIn::Header);
        let schema = plain(Type::String.into(), header.about);
        operation = operation.parameter(parameter.description(Some(header.about)).schema(Some(schema)));
    }
    let answer = contents(call.answers, components).into_iter().fold(
        ResponseBuilder::new().description("Done."),
        |answer, (kind, schema)| answer.content(kind, ContentBuilder::new().schema(schema).build()),
    );
    let error = ContentBuilder::new().schema(Some(components.add(&documents::ERROR)));
    let error = ResponseBuilder::new()
        .description("It was not done, or not known to be; see its code.")
        .content("application/json", error.build());
    operation
        .request_body(request_body(call.takes, components))
        .response("200", answer.build())
        .response("default", error.build())
}

/// The names between braces.
fn path_parameters(path: &'static str) -> impl Iterator<Item = &'static str> {
    let inner = path.split('{').skip(1);
    inner.filter_map(|part| Some(part.split_once('}')?.0.trim_start_matches('*')))
}

fn query_parameter(parameter: &Parameter) -> Described {
    let schema = match parameter.form {
        Form::Whole => plain(Type::Integer.into(), parameter.about),
        Form::Seconds => plain(Type::Number.into(), parameter.about),
        Form::Flag => plain(Type::Boolean.into(), parameter.about),
        Form::Word(words) => words_schema(words, parameter.about),
        Form::Bytes | Form::Duration | Form::Lease | Form::Opaque => {
            plain(Type::String.into(), parameter.about)
        }
    };
    let required = match parameter.necessity {
        Necessity::Required => Required::True,
        Necessity::Optional => Required::False,
    };
    ParameterBuilder::new()
        .name(parameter.name)
        .parameter_in(ParameterIn::Query)
        .required(required)
        .description(Some(parameter.about))
        .schema(Some(schema))
        .example(Some(parameter.example.into()))
        .build()
}

fn request_body(content: Content, components: &mut Components) -> Option<RequestBody> {
    let contents = contents(content, components);
    if contents.is_empty() {
        return None;
    }
    let body = contents
        .into_iter()
        .fold(RequestBodyBuilder::new(), |body, (kind, schema)| {
            body.content(kind, ContentBuilder::new().schema(schema).build())
        });
    Some(body.required(Some(Required::True)).build())
}

/// The media types of a body, and the schema of each.
fn contents(content: Content, components: &mut Components) -> Vec<(&'static str, Option<RefOr<Schema>>)> {
    let text = |about| Some(plain(Type::String.into(), about));
    match content {
        Content::Nothing => Vec::new(),
        Content::Octets => vec![("application/octet-stream", text("Any bytes."))],
        Content::Text => vec![("text/plain", text("A figure a line."))],
        Content::Events => vec![("text/event-stream", text("Server-sent events."))],
        Content::Json(document) => vec![("application/json", Some(components.add(document)))],
        Content::JsonOrLines(document) => vec![
            ("application/json", Some(components.add(document))),
            ("application/x-ndjson", text("One record a line.")),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn description() -> Value {
        serde_json::from_str(super::description()).expect("JSON")
    }

    #[test]
    fn each_call_is_described_with_its_parameters() {
        let description = description();
        assert_eq!(description["openapi"], "3.1.0");
        for call in CALLS {
            let path = call.path.replace("{*", "{");
            let method = format!("{:?}", call.method).to_lowercase();
            let operation = &description["paths"][&path][&method];
            assert_eq!(operation["summary"], call.about, "{method} {path}");
            let named = operation["parameters"].as_array().into_iter().flatten();
            let named: Vec<&str> = named.filter_map(|parameter| parameter["name"].as_str()).collect();
            let parameters = call.parameters.iter().map(|parameter| parameter.name);
            let headers = call.headers.iter().map(|header| header.name);
            let expected: Vec<&str> = path_parameters(call.path)
                .chain(parameters)
                .chain(headers)
                .collect();
            assert_eq!(named, expected, "{method} {path}");
        }
    }

    #[test]
    fn what_a_call_can_not_do_without_is_required() {
        let description = description();
        let of_get = description["paths"]["/get"]["get"]["parameters"].as_array();
        let required = of_get.into_iter().flatten().map(|parameter| {
            let name = parameter["name"].as_str().expect("a name");
            (name, parameter["required"] == true)
        });
        let required: Vec<(&str, bool)> = required.collect();
        assert!(required.contains(&("key", true)), "{required:?}");
        assert!(
            required[1..].iter().all(|(_, required)| !required),
            "{required:?}"
        );
    }

    #[test]
    fn each_reference_leads_somewhere_and_each_schema_is_used() {
        let description = description();
        let text = description.to_string();
        let used: BTreeSet<&str> = text
            .split("\"#/components/schemas/")
            .skip(1)
            .map(|rest| rest.split('"').next().expect("the name"))
            .collect();
        let schemas = description["components"]["schemas"].as_object().expect("schemas");
        let there: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
        assert_eq!(used, there);
        assert_eq!(
            schemas["Txn"]["properties"]["then"]["items"]["$ref"],
            "#/components/schemas/Operation"
        );
        assert_eq!(
            schemas["Deleted"]["required"],
            serde_json::json!(["deleted", "revision"])
        );
    }
}
