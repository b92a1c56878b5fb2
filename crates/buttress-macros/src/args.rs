//! What stands in the parentheses of the attribute.

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitStr, Path, Result, Token};

use crate::field::{self, Field};
use crate::period;

const KEYS: &str = "name, fields, error_type, slow, slo, domain, event";

#[derive(Default)]
pub(crate) struct Args {
    pub(crate) name: Option<LitStr>,
    pub(crate) fields: Vec<Field>,
    /// Names errors.
    pub(crate) error_type: Option<Path>,
    /// In nanoseconds, as the next.
    pub(crate) slow: Option<u64>,
    pub(crate) slo: Option<u64>,
    pub(crate) domain: Option<Domain>,
    pub(crate) event: Option<Event>,
}

pub(crate) enum Domain {
    /// One of those that are there already, by the name of its constant.
    Known(Ident),
    Named(LitStr),
    Constant(Path),
}

pub(crate) enum Event {
    /// Named as the function.
    Plain,
    Named(LitStr),
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let Ok(key) = input.call(Ident::parse_any) else {
                return Err(input.error(format!("expected one of {KEYS}, as in `name = \"charge\"`")));
            };
            if seen.contains(&key) {
                return Err(Error::new(key.span(), format!("`{key}` is there twice")));
            }
            args.take(&key, input)?;
            seen.push(key);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(args)
    }
}

impl Args {
    fn take(&mut self, key: &Ident, input: ParseStream<'_>) -> Result<()> {
        match key.to_string().as_str() {
            "name" => self.name = Some(text(key, "\"charge\"", input)?),
            "fields" => self.fields = field::parse_all(key, input)?,
            "error_type" => {
                assigned(key, "name_of_error", input)?;
                let path = input.parse();
                self.error_type = Some(path.map_err(|error| {
                    Error::new(error.span(), "expected the path of a function from `&Error` to `&'static str`")
                })?);
            }
            "slow" => self.slow = Some(period::parse(&text(key, "\"250ms\"", input)?)?),
            "slo" => self.slo = Some(period::parse(&text(key, "\"500ms\"", input)?)?),
            "domain" => self.domain = Some(domain(key, input)?),
            "event" => self.event = Some(event(key, input)?),
            other => return Err(Error::new(key.span(), unknown(other))),
        }
        Ok(())
    }
}

fn unknown(key: &str) -> String {
    match key {
        "skip" | "skip_all" => {
            format!("`{key}` is not needed: no argument is recorded unless `fields(..)` names it")
        }
        "err" => "`err` is not needed: an `Err` is told anyway; `error_type` gives it another name".to_owned(),
        "ret" => "what a function returns is not recorded; set an attribute of the current context in it".to_owned(),
        "level" | "target" | "parent" | "follows_from" => {
            format!("`{key}` is a key of `tracing`; those here are {KEYS}")
        }
        _ => format!("unknown key `{key}`; the keys are {KEYS}"),
    }
}

/// The `=` after a key.
fn assigned(key: &Ident, example: &str, input: ParseStream<'_>) -> Result<()> {
    let equals = input.parse::<Token![=]>();
    equals.map(drop).map_err(|_| Error::new(key.span(), format!("`{key}` needs a value: `{key} = {example}`")))
}

fn text(key: &Ident, example: &str, input: ParseStream<'_>) -> Result<LitStr> {
    assigned(key, example, input)?;
    let at = input.span();
    let Ok(text) = input.parse::<LitStr>() else {
        return Err(Error::new(at, format!("`{key}` is a text: `{key} = {example}`")));
    };
    if text.value().trim().is_empty() {
        return Err(Error::new(text.span(), format!("`{key}` is empty")));
    }
    Ok(text)
}

fn event(key: &Ident, input: ParseStream<'_>) -> Result<Event> {
    if !input.peek(Token![=]) {
        return Ok(Event::Plain);
    }
    text(key, "\"order.placed\"", input).map(Event::Named)
}

fn domain(key: &Ident, input: ParseStream<'_>) -> Result<Domain> {
    if input.peek2(LitStr) {
        return text(key, "\"shipping\"", input).map(Domain::Named);
    }
    assigned(key, "payment", input)?;
    let at = input.span();
    let Ok(path) = input.parse::<Path>() else {
        return Err(Error::new(
            at,
            "a domain is `billing`, `payment`, `document`, `user`, a text or the path of a constant",
        ));
    };
    let Some(word) = path.get_ident() else { return Ok(Domain::Constant(path)) };
    let name = word.to_string();
    match name.as_str() {
        "billing" | "payment" | "document" | "user" => {
            Ok(Domain::Known(Ident::new(&name.to_uppercase(), Span::mixed_site())))
        }
        _ if name.chars().any(char::is_uppercase) => Ok(Domain::Constant(path)),
        _ => Err(Error::new(
            word.span(),
            format!(
                "unknown domain `{name}`: there are `billing`, `payment`, `document` and `user`; \
                 of one's own it is `domain = \"{name}\"` or the path of a `Domain`"
            ),
        )),
    }
}

/// Of the tokens in the parentheses.
pub(crate) fn parse(tokens: TokenStream) -> Result<Args> {
    syn::parse2(tokens)
}
