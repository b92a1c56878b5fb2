use http::HeaderMap;
use std::time::Duration;
pub(crate) enum Pushback {
    Wait(Duration),
    Never,
}
impl Pushback {
    pub(crate) fn wait(self) -> Option<Duration> {
        match self {
            Self::Wait(d) => Some(d),
            Self::Never => None,
        }
    }
}
pub(crate) fn pushback(_h: &HeaderMap) -> Option<Pushback> {
    None
}
pub(crate) fn retry_after(_h: &HeaderMap) -> Option<Duration> {
    None
}
