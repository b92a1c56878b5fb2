//! Logins and registrations. Names, passwords and codes are on no span: nothing is told that is not named here.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use buttress::Telemetry;
use serde::Deserialize;

use crate::{continued, to_be_continued};

#[derive(Deserialize)]
pub(crate) struct Login {
    user: String,
    password: String,
}

/// A wrong password is an answer and no error of ours, but the flow has failed for its user.
pub(crate) async fn login(
    State(telemetry): State<Telemetry>,
    Query(login): Query<Login>,
) -> Result<&'static str, (StatusCode, &'static str)> {
    let flow = telemetry.flow("login");
    flow.attribute("login.method", "password");
    let verify = flow.step("verify").judged(|right: &bool| (!right).then_some("wrong_password"));
    let is_right = verify.run(async { login.user == "ada" && login.password == "lovelace" }).await;
    if !is_right {
        flow.fail("wrong_password");
        return Err((StatusCode::UNAUTHORIZED, "no\n"));
    }
    flow.step("open_session").infallible().call(|| ());
    flow.complete();
    Ok("welcome\n")
}

#[derive(Deserialize)]
pub(crate) struct Registration {
    #[serde(default)]
    plan: String,
}

/// The first of two requests. Who never confirms has left at `send_code`, and after an hour the metrics say so.
pub(crate) async fn register(
    State(telemetry): State<Telemetry>,
    Query(registration): Query<Registration>,
) -> impl IntoResponse {
    let flow = telemetry.flow("registration");
    flow.attribute("account.plan", registration.plan);
    flow.step("check_form").infallible().call(|| ());
    flow.step("send_code").infallible().call(|| ());
    to_be_continued(flow, "look into your mail\n")
}

#[derive(Deserialize)]
pub(crate) struct Confirmation {
    code: String,
}

/// A wrong code may be corrected, so that the flow goes on.
pub(crate) async fn confirm(
    State(telemetry): State<Telemetry>,
    Query(confirmation): Query<Confirmation>,
) -> Result<&'static str, (StatusCode, &'static str)> {
    let flow = continued(&telemetry)?;
    let confirmed = flow.step("confirm").call(|| if confirmation.code == "1815" { Ok(()) } else { Err("wrong code") });
    if confirmed.is_err() {
        return Err((StatusCode::FORBIDDEN, "wrong code, try again\n"));
    }
    flow.complete();
    Ok("registered\n")
}
