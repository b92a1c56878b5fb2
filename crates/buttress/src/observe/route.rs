use std::fmt;
use std::sync::Arc;

use http::Extensions;

/// The template of the route that answers a request, such as `/items/{id}`.
///
/// With the feature `axum` it is found by itself inside a router. Elsewhere a router can put one into the extensions of
/// the request or of its answer.
#[derive(Clone)]
pub struct Route(Template);

#[derive(Clone)]
enum Template {
    Static(&'static str),
    Shared(Arc<str>),
    #[cfg(feature = "axum")]
    Matched(::axum::extract::MatchedPath),
}

impl Route {
    /// A route known at compile time.
    pub const fn from_static(template: &'static str) -> Self {
        Self(Template::Static(template))
    }

    /// The template.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Template::Static(template) => template,
            Template::Shared(template) => template,
            #[cfg(feature = "axum")]
            Template::Matched(matched) => matched.as_str(),
        }
    }

    /// The template that somebody put into these extensions.
    #[cfg(feature = "metrics")]
    pub(crate) fn text_of(extensions: &Extensions) -> Option<&str> {
        if let Some(route) = extensions.get::<Self>() {
            return Some(route.as_str());
        }
        #[cfg(feature = "axum")]
        if let Some(matched) = extensions.get::<::axum::extract::MatchedPath>() {
            return Some(matched.as_str());
        }
        None
    }

    /// The route that somebody put into these extensions.
    #[cfg(any(feature = "trace", feature = "axum"))]
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        if let Some(route) = extensions.get::<Self>() {
            return Some(route.clone());
        }
        #[cfg(feature = "axum")]
        if let Some(matched) = extensions.get::<::axum::extract::MatchedPath>() {
            return Some(Self(Template::Matched(matched.clone())));
        }
        None
    }
}

impl From<Arc<str>> for Route {
    fn from(template: Arc<str>) -> Self {
        Self(Template::Shared(template))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({})", self.as_str())
    }
}
