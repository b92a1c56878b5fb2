//! The function that the attribute stands on, with its body as it came.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use syn::parse::{Parse, ParseStream};
use syn::visit::{self, Visit};
use syn::{Attribute, Error, FnArg, Ident, PatIdent, Result, Signature, Token, Visibility};

use crate::field::Field;

pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) default: Option<Token![default]>,
    pub(crate) signature: Signature,
    pub(crate) body: Group,
}

pub(crate) fn parse(tokens: TokenStream) -> Result<Function> {
    syn::parse2(tokens)
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let default = if input.peek(Token![default]) { Some(input.parse()?) } else { None };
        let at = input.span();
        let Ok(signature) = input.parse::<Signature>() else {
            return Err(Error::new(at, "`#[observe]` stands on a function or a method"));
        };
        if input.peek(Token![;]) {
            let why = "a function without a body cannot be observed; put `#[observe]` on what implements it";
            return Err(Error::new(signature.ident.span(), why));
        }
        let body = match input.parse()? {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => group,
            other => return Err(Error::new(other.span(), "expected the body of the function")),
        };
        refuse(&signature)?;
        Ok(Self { attributes, visibility, default, signature, body })
    }
}

fn refuse(signature: &Signature) -> Result<()> {
    if let Some(constant) = &signature.constness {
        return Err(Error::new(constant.span, "a `const fn` cannot be observed: it may run in the compiler"));
    }
    if let Some(abi) = &signature.abi {
        let why = "an `extern` function cannot be observed; put `#[observe]` on a Rust function that it calls";
        return Err(Error::new(abi.extern_token.span, why));
    }
    Ok(())
}

impl Function {
    /// Whether what the fields name is among the arguments.
    pub(crate) fn check(&self, fields: &[Field]) -> Result<()> {
        let mut bound = Bound::default();
        self.signature.inputs.iter().for_each(|input| bound.visit_fn_arg(input));
        for argument in fields.iter().filter_map(|field| field.argument.as_ref()) {
            if !bound.0.contains(argument) {
                let why = format!(
                    "`{argument}` is no argument of `{}`; a field of something else has a name: `name = value`",
                    self.signature.ident
                );
                return Err(Error::new(argument.span(), why));
            }
        }
        Ok(())
    }
}

/// Names that arguments bind.
#[derive(Default)]
struct Bound(Vec<Ident>);

impl<'a> Visit<'a> for Bound {
    fn visit_fn_arg(&mut self, argument: &'a FnArg) {
        if let FnArg::Receiver(_) = argument {
            self.0.push(Ident::new("self", Span::call_site()));
        }
        visit::visit_fn_arg(self, argument);
    }

    fn visit_pat_ident(&mut self, pattern: &'a PatIdent) {
        self.0.push(pattern.ident.clone());
        visit::visit_pat_ident(self, pattern);
    }
}
