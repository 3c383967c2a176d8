//! The road in this process: a log in memory, the engine, and the routes without a socket.

use std::sync::{Arc, OnceLock};

use actix_web::App;
use actix_web::dev::Service;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use rollcall::engine::Engine;
use rollcall::http::{Settings, WEBHOOK_PATH, app};
use rollcall::keys::ApiKeys;
use rollcall::log::{Log, MemoryLog};
use rollcall::verify::{Keyring, Observation, Observed, Origin, Source, Verified, extract};
use rollcall_projections::{Millis, RecordStatus, Views};
use serde_json::Value;

use crate::kit::exposition::Scrape;
use crate::kit::server::{API_KEY, SECRET, now_ms, signature};

pub fn keyring() -> Keyring {
    Keyring::new([SECRET], 180_000)
}

pub fn settings() -> Settings {
    Settings::new(keyring(), ApiKeys::unrestricted([API_KEY]))
}

/// Verifies `body`, signed now.
pub fn verified(body: &[u8]) -> Verified {
    verified_at(body, now_ms())
}

/// Verifies a body that was signed and received at `t_ms`.
pub fn verified_at(body: &[u8], t_ms: Millis) -> Verified {
    let header = signature(SECRET, &t_ms.to_string(), body);
    Verified::webhook(&keyring(), Some(header.as_bytes()), body.to_vec().into(), t_ms).unwrap()
}

/// Takes a body as one that was pulled from a source at `t_ms`.
pub fn pulled_at(body: &[u8], t_ms: Millis) -> Verified {
    Verified::pulled(
        &Origin::new("https://source.example", "sk_source"),
        t_ms,
        body.to_vec().into(),
    )
}

/// Takes a body as one that an operator imports.
pub fn imported(body: &[u8]) -> Verified {
    let operator = ApiKeys::unrestricted([API_KEY]).identify(API_KEY).unwrap();
    Verified::imported(&operator, body.to_vec().into())
}

/// Takes an answer of a source that was asked at `t_ms`, effective at that moment.
pub fn observed_at(observed: Observed, t_ms: Millis) -> Verified {
    let origin = Origin::new("https://source.example", "sk_source");
    let run = "run_00000000-0000-7000-8000-000000000000".to_owned();
    let observation = Observation { observed, observed_at: t_ms, run };
    Verified::observed(&origin, &observation, t_ms, t_ms).unwrap()
}

pub fn memory_log<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Arc<MemoryLog> {
    let log = MemoryLog::new([7; 16]);
    for body in bodies {
        log.append(vec![verified(body)], now_ms()).unwrap();
    }
    Arc::new(log)
}

pub fn engine(log: Arc<dyn Log>) -> Arc<Engine> {
    Engine::start(log, 1 << 20, now_ms, |_| {}).unwrap()
}

/// Folds bodies that were recorded at `recorded_at`, each as an event that counts.
pub fn fold(bodies: &[&[u8]], recorded_at: Millis) -> Views {
    let mut views = Views::new();
    for (index, body) in bodies.iter().enumerate() {
        let extracted = extract(body, Some(recorded_at));
        let names = [extracted.event_id.as_deref(), extracted.event_type.as_deref()];
        let (seq, source) = (index as u64 + 1, Source::Workos);
        views.apply(&extracted.facts.entry(seq, recorded_at, source, names, RecordStatus::Counts));
    }
    views
}

/// Asks the routes over `engine` once, and returns status and body.
pub fn answer(engine: Arc<Engine>, request: TestRequest) -> (u16, Vec<u8>) {
    let slot: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    slot.set(engine.clone()).ok().unwrap();
    let answer = actix_web::rt::System::new().block_on(async {
        let service = init_service(App::new().configure(app(settings(), slot))).await;
        let response = actix_web::test::call_service(&service, request.to_request()).await;
        (response.status().as_u16(), read_body(response).await.to_vec())
    });
    engine.close();
    answer
}

/// Asks the routes over `engine`, or over none.
pub fn asking<T>(
    engine: Option<Arc<Engine>>,
    questions: impl AsyncFnOnce(&dyn AsyncAsk) -> T,
) -> T {
    let slot: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    if let Some(engine) = &engine {
        slot.set(engine.clone()).ok().unwrap();
    }
    let answer = actix_web::rt::System::new().block_on(async {
        let service = init_service(App::new().configure(app(settings(), slot))).await;
        questions(&service).await
    });
    if let Some(engine) = engine {
        engine.close();
    }
    answer
}

/// The routes as a test asks them.
pub trait AsyncAsk {
    fn call<'a>(
        &'a self,
        request: TestRequest,
    ) -> std::pin::Pin<Box<dyn Future<Output = (StatusCode, Value)> + 'a>>;
}

impl<S, B> AsyncAsk for S
where
    S: Service<
            actix_http::Request,
            Response = actix_web::dev::ServiceResponse<B>,
            Error = actix_web::Error,
        >,
    B: actix_web::body::MessageBody,
{
    fn call<'a>(
        &'a self,
        request: TestRequest,
    ) -> std::pin::Pin<Box<dyn Future<Output = (StatusCode, Value)> + 'a>> {
        Box::pin(async move {
            let response = actix_web::test::call_service(self, request.to_request()).await;
            let status = response.status();
            let body = read_body(response).await;
            let answer = serde_json::from_slice(&body).unwrap();
            if status.is_client_error() || status.is_server_error() {
                crate::calls::shapes::check_error(status.as_u16(), &answer);
            }
            (status, answer)
        })
    }
}

/// An answer of the routes as it leaves them, without the id of its request.
#[derive(Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Returns the reply without what depends on the moment of the answer.
    pub fn without_clock(mut self) -> Reply {
        let mut body = self.json();
        if body["object"] == "stats" {
            body["at"] = Value::Null;
            for directory in body["directories"]["data"].as_array_mut().unwrap() {
                directory["silent_ms"] = Value::Null;
            }
            self.headers.retain(|(name, _)| name != "content-length");
            self.body = body.to_string();
        }
        self
    }

    /// Returns the reply with one word in place of another.
    pub fn with(&self, word: &str, other: &str) -> Reply {
        let replaced =
            |(name, value): &(String, String)| (name.clone(), value.replace(word, other));
        Reply {
            status: self.status,
            headers: self.headers.iter().map(replaced).collect(),
            body: self.body.replace(word, other),
        }
    }
}

type Replying<'a> = std::pin::Pin<Box<dyn Future<Output = Reply> + 'a>>;

/// The routes with settings of their own, for any key.
pub struct Routes(Box<dyn Fn(TestRequest) -> Replying<'static>>);

impl Routes {
    pub async fn of(engine: Arc<Engine>, settings: Settings) -> Routes {
        let slot: Arc<OnceLock<Arc<Engine>>> = Arc::default();
        slot.set(engine).ok().unwrap();
        let service = init_service(App::new().configure(app(settings, slot))).await;
        let service = std::rc::Rc::new(service);
        Routes(Box::new(move |request| {
            let service = service.clone();
            Box::pin(async move {
                let response = call_service(&*service, request.to_request()).await;
                let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
                let shown = response.headers().iter().filter(|(name, _)| *name != "x-request-id");
                let mut headers: Vec<(String, String)> =
                    shown.map(|(name, value)| (name.to_string(), text(value))).collect();
                headers.sort();
                let status = response.status().as_u16();
                let body = String::from_utf8(read_body(response).await.to_vec()).unwrap();
                Reply { status, headers, body }
            })
        }))
    }

    pub async fn send(&self, request: TestRequest) -> Reply {
        (self.0)(request).await
    }

    pub async fn ask(&self, method: &str, path: &str, key: &str) -> Reply {
        let request = TestRequest::with_uri(path)
            .method(method.to_uppercase().parse().unwrap())
            .insert_header(("Authorization", format!("Bearer {key}")));
        self.send(request).await
    }

    pub async fn get(&self, path: &str, key: &str) -> Reply {
        self.ask("GET", path, key).await
    }

    /// Returns the items of a list.
    pub async fn list(&self, path: &str, key: &str) -> Vec<Value> {
        let reply = self.get(path, key).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.json()["data"].as_array().unwrap().clone()
    }
}

pub fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(path).insert_header(("Authorization", format!("Bearer {API_KEY}")))
}

pub fn post(body: &[u8]) -> TestRequest {
    let header = signature(SECRET, &now_ms().to_string(), body);
    TestRequest::post()
        .uri(WEBHOOK_PATH)
        .insert_header(("WorkOS-Signature", header))
        .set_payload(body.to_vec())
}

/// Builds the request of an operator's act in a story.
pub fn act(act: &crate::laws::stories::Act) -> TestRequest {
    let method = act.method.parse().unwrap();
    TestRequest::with_uri(&act.path)
        .method(method)
        .insert_header(("Authorization", format!("Bearer {API_KEY}")))
        .set_payload(act.body.as_ref().map(Value::to_string).unwrap_or_default())
}

/// Builds the request of an operator's act.
pub fn operate(method: actix_web::http::Method, path: &str, body: &Value) -> TestRequest {
    let request = TestRequest::with_uri(path)
        .method(method)
        .insert_header(("Authorization", format!("Bearer {API_KEY}")));
    request.insert_header(("Content-Type", "application/json")).set_payload(body.to_string())
}

/// Reads the metrics of an engine.
pub fn scraped(engine: &Engine) -> Scrape {
    Scrape::read(&rollcall::metrics::text(engine.metric_families()))
}
