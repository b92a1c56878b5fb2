//! Tuples of observers, and observers that may be absent. Of a tuple the first is outermost, so it starts first and sees head and end last.

use http::{Request, Response};

use super::{End, Exchange, Observe, Present, Probe};

macro_rules! tuple {
    ($(($observer:ident, $probe:ident, $index:tt)),+; $($reverse:tt),+) => {
        impl<B, $($observer: Observe<B>),+> Observe<B> for ($($observer,)+) {
            type Probe = ($($observer::Probe,)+);

            const CHANGES_HEADERS: bool = false $(|| $observer::CHANGES_HEADERS)+;
            const ASKS_FOR_HEADERS: bool = false $(|| $observer::ASKS_FOR_HEADERS)+;

            #[inline]
            fn start(&self, request: &mut Request<B>, exchange: &mut Exchange) -> Self::Probe {
                ($({
                    let probe = self.$index.start(request, exchange);
                    if $observer::CHANGES_HEADERS {
                        exchange.present = Present::UNKNOWN;
                    }
                    probe
                },)+)
            }
        }

        impl<$($probe: Probe),+> Probe for ($($probe,)+) {
            const READS_TIMES: bool = false $(|| $probe::READS_TIMES)+;
            const READS_HEAD_TIME: bool = false $(|| $probe::READS_HEAD_TIME)+;

            #[inline]
            fn head<T>(&mut self, response: &mut Response<T>, exchange: &mut Exchange) {
                $(self.$reverse.head(response, exchange);)+
            }

            #[inline]
            fn data(&mut self, bytes: u64) {
                $(self.$reverse.data(bytes);)+
            }

            #[inline]
            fn end(self, end: &End<'_>) {
                $(self.$reverse.end(end);)+
            }
        }
    };
}

/// Nobody watches.
impl<B> Observe<B> for () {
    type Probe = ();

    const CHANGES_HEADERS: bool = false;

    fn start(&self, _request: &mut Request<B>, _exchange: &mut Exchange) {}
}

/// None watches nothing.
impl<B, O: Observe<B>> Observe<B> for Option<O> {
    type Probe = Option<O::Probe>;

    const CHANGES_HEADERS: bool = O::CHANGES_HEADERS;
    const ASKS_FOR_HEADERS: bool = O::ASKS_FOR_HEADERS;

    #[inline]
    fn start(&self, request: &mut Request<B>, exchange: &mut Exchange) -> Self::Probe {
        self.as_ref().map(|observer| observer.start(request, exchange))
    }
}

impl<P: Probe> Probe for Option<P> {
    const READS_TIMES: bool = P::READS_TIMES;
    const READS_HEAD_TIME: bool = P::READS_HEAD_TIME;

    #[inline]
    fn head<R>(&mut self, response: &mut Response<R>, exchange: &mut Exchange) {
        if let Some(probe) = self {
            probe.head(response, exchange);
        }
    }

    fn data(&mut self, bytes: u64) {
        if let Some(probe) = self {
            probe.data(bytes);
        }
    }

    #[inline]
    fn end(self, end: &End<'_>) {
        if let Some(probe) = self {
            probe.end(end);
        }
    }
}

tuple!((A, P, 0); 0);
tuple!((A, P, 0), (B1, Q, 1); 1, 0);
tuple!((A, P, 0), (B1, Q, 1), (C, R, 2); 2, 1, 0);
tuple!((A, P, 0), (B1, Q, 1), (C, R, 2), (D, S, 3); 3, 2, 1, 0);
