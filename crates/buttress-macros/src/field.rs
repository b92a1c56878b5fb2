//! The fields of a function: `order_id`, `user.id`, `amount = cents * 100`, `%error`, `order = ?order`.

use std::collections::HashSet;

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::discouraged::Speculative;
use syn::parse::{ParseBuffer, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Expr, Ident, LitStr, Member, Result, Token, parenthesized};

pub(crate) struct Field {
    pub(crate) key: LitStr,
    pub(crate) form: Form,
    pub(crate) value: Expr,
    /// Of a field without a value of its own: what has to be an argument.
    pub(crate) argument: Option<Ident>,
}

/// How the value becomes one of an attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Value,
    Display,
    Debug,
}

pub(crate) fn parse_all(key: &Ident, input: ParseStream<'_>) -> Result<Vec<Field>> {
    let content;
    if !input.peek(syn::token::Paren) {
        return Err(Error::new(
            key.span(),
            "`fields` needs names in parentheses: `fields(order_id, amount = cents * 100)`",
        ));
    }
    parenthesized!(content in input);
    let (mut fields, mut keys) = (Vec::new(), HashSet::new());
    while !content.is_empty() {
        let field = parse(&content)?;
        if !keys.insert(field.key.value()) {
            return Err(Error::new(field.key.span(), format!("the field `{}` is there twice", field.key.value())));
        }
        fields.push(field);
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(fields)
}

fn parse(input: &ParseBuffer<'_>) -> Result<Field> {
    let ahead = input.fork();
    let form = form(&ahead)?;
    let named = match ahead.parse::<LitStr>() {
        Ok(key) => Some((key, None)),
        Err(_) => path(&ahead),
    };
    let ends = ahead.is_empty() || ahead.peek(Token![,]);
    match named {
        Some((key, _)) if ahead.peek(Token![=]) && !ahead.peek(Token![==]) && form == Form::Value => {
            input.advance_to(&ahead);
            input.parse::<Token![=]>()?;
            let form = self::form(input)?;
            Ok(Field { key, form, value: input.parse()?, argument: None })
        }
        Some((key, Some((argument, value)))) if ends => {
            input.advance_to(&ahead);
            Ok(Field { key, form, value, argument: Some(argument) })
        }
        _ => Err(unnamed(input)),
    }
}

/// Of what is neither a name nor `name = value`.
fn unnamed(input: &ParseBuffer<'_>) -> Error {
    let why = "a field is an argument or has a name: `name = value`";
    let at = input.span();
    input.parse::<Expr>().map_or_else(|_| Error::new(at, why), |value| Error::new_spanned(value, why))
}

fn form(input: &ParseBuffer<'_>) -> Result<Form> {
    Ok(if input.parse::<Option<Token![%]>>()?.is_some() {
        Form::Display
    } else if input.parse::<Option<Token![?]>>()?.is_some() {
        Form::Debug
    } else {
        Form::Value
    })
}

/// A name with dots, as a key; and as what stands for its value, with what that begins with.
fn path(input: &ParseBuffer<'_>) -> Option<(LitStr, Option<(Ident, Expr)>)> {
    let first = input.call(Ident::parse_any).ok()?;
    let (mut name, mut span) = (first.unraw().to_string(), first.span());
    let mut value: Option<Expr> = syn::parse2(quote::quote!(#first)).ok();
    if first == "self" {
        name.clear();
    }
    while input.peek(Token![.]) {
        input.parse::<Token![.]>().ok()?;
        let next: Member = input.parse().ok()?;
        let part = match &next {
            Member::Named(part) => part.unraw().to_string(),
            Member::Unnamed(nth) => nth.index.to_string(),
        };
        name = if name.is_empty() { part } else { format!("{name}.{part}") };
        span = joined(span, next.span());
        value = value.and_then(|value| syn::parse2(quote::quote!(#value.#next)).ok());
    }
    let key = LitStr::new(if name.is_empty() { "self" } else { &name }, span);
    // `self` alone says nothing of which field is meant.
    let value = value.filter(|_| !name.is_empty()).map(|value| (first, value));
    Some((key, value))
}

fn joined(one: Span, other: Span) -> Span {
    one.join(other).unwrap_or(one)
}
