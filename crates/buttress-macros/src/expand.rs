//! The function as it was, around whose body stands one call of `buttress::function::Site`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Result, Type};

use crate::args::{self, Args, Domain, Event};
use crate::field::{Field, Form};
use crate::function::{self, Function};
use crate::shape::{self, AsyncBlock, Shape};

pub(crate) fn expand(args: TokenStream, item: TokenStream) -> Result<TokenStream> {
    // First the item: on a struct, nobody wants to hear of keys.
    let function = function::parse(item)?;
    let args = args::parse(args)?;
    function.check(&args.fields)?;
    let Function { attributes, visibility, default, signature, .. } = &function;
    let body = body(&function, &args);
    Ok(quote!(#(#attributes)* #visibility #default #signature { #body }))
}

fn body(function: &Function, args: &Args) -> TokenStream {
    let Function { signature, body, .. } = function;
    let (begin, run) = (Begin { function, args }, run_name());
    let (judge, returned) = (judge(args), shape::returned(&signature.output));
    // Of what comes after a call that never returns the compiler knows nothing.
    let end = shape::is_never(&signature.output).then(|| quote!(; ::std::unreachable!()));
    match shape::of(signature, body) {
        Shape::Plain => quote!(#begin #run.call(move || -> #returned #body, #judge) #end),
        Shape::Async => {
            let typed = typed(&returned);
            quote!(#begin #run.run(async move { #typed #body }, #judge).await #end)
        }
        Shape::Block(AsyncBlock { before, pin, block }) => {
            let statements = &block.block.stmts;
            let work = quote!(async move { #begin #run.run(async move { #(#statements)* }, #judge).await });
            let work = pin.map_or_else(|| work.clone(), |pin| quote!(#pin(#work)));
            quote!(#(#before)* #work)
        }
        Shape::Future { boxed } => boxed_if(boxed, &begin, &quote!(#run.future(move || #body, #judge))),
        Shape::Stream { boxed } => boxed_if(boxed, &begin, &quote!(#run.stream(move || #body, #judge))),
    }
}

fn boxed_if(boxed: bool, begin: &Begin<'_>, work: &TokenStream) -> TokenStream {
    match boxed {
        true => quote!(#begin ::std::boxed::Box::pin(#work)),
        false => quote!(#begin #work),
    }
}

/// Tells the compiler what comes out of an async block, which of a function it would know.
fn typed(returned: &Type) -> TokenStream {
    quote!(if false { return ::buttress::function::never::<#returned>(); })
}

/// The variable that holds the run; no name of the function's can be it.
fn run_name() -> Ident {
    Ident::new("run", Span::mixed_site())
}

/// The site of the function, its run, and what the fields tell of it.
struct Begin<'a> {
    function: &'a Function,
    args: &'a Args,
}

impl ToTokens for Begin<'_> {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let (site, run) = (site(&self.function.signature.ident, self.args), run_name());
        let fields = self.args.fields.iter().enumerate().map(|(nth, field)| note(nth, field));
        let mutable = (!self.args.fields.is_empty()).then(|| quote!(mut));
        tokens.extend(quote!(
            static OBSERVED: ::buttress::function::Site = #site;
            let #mutable #run = OBSERVED.begin();
        ));
        if mutable.is_some() {
            tokens.extend(quote!(if #run.is_recorded() { #(#fields)* }));
        }
    }
}

fn site(function: &Ident, args: &Args) -> TokenStream {
    let name = syn::ext::IdentExt::unraw(function).to_string();
    let mut site = match &args.name {
        Some(name) => quote!(::buttress::function::Site::named(#name)),
        None => quote!(::buttress::function::Site::at(concat!(module_path!(), "::", #name))),
    };
    if !args.fields.is_empty() {
        let keys = args.fields.iter().map(|field| &field.key);
        site.extend(quote!(.fields(&[#(#keys),*])));
    }
    if let Some(domain) = &args.domain {
        let domain = match domain {
            Domain::Known(constant) => quote!(::buttress::function::Domain::#constant),
            Domain::Named(name) => quote!(::buttress::function::Domain::new(#name)),
            Domain::Constant(path) => quote!(#path),
        };
        site.extend(quote!(.domain(#domain)));
    }
    if let Some(nanos) = args.slow {
        site.extend(quote!(.slow(#nanos)));
    }
    if let Some(nanos) = args.slo {
        site.extend(quote!(.slo(#nanos)));
    }
    match &args.event {
        Some(Event::Plain) => site.extend(quote!(.event_of_its_name())),
        Some(Event::Named(name)) => site.extend(quote!(.event(#name))),
        None => {}
    }
    site
}

fn note(nth: usize, field: &Field) -> TokenStream {
    let (value, run) = (&field.value, run_name());
    // Errors about the value shall point at it.
    let span = field.argument.as_ref().map_or_else(|| syn::spanned::Spanned::span(value), Ident::span);
    let value = quote!((#value));
    let method = match field.form {
        Form::Value => quote_spanned!(span=> field),
        Form::Display => quote_spanned!(span=> displayed_field),
        Form::Debug => quote_spanned!(span=> debug_field),
    };
    quote_spanned!(span=> #run.#method(#nth, &#value);)
}

fn judge(args: &Args) -> TokenStream {
    let output = Ident::new("output", Span::mixed_site());
    match &args.error_type {
        Some(name) => quote!(|#output| ::buttress::function::error_type(#output, #name)),
        None => quote!(|#output| {
            use ::buttress::function::{AnyOutput as _, DisplayedError as _, OtherError as _};
            (&&&::buttress::function::Judged(#output)).error_type()
        }),
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn expanded(args: TokenStream, item: TokenStream) -> String {
        expand(args, item).unwrap().to_string()
    }

    #[test]
    fn a_function_is_one_call_of_its_site() {
        let charge = expanded(
            quote!(),
            quote!(
                pub fn charge(cents: u64) -> u64 {
                    cents
                }
            ),
        );
        assert!(charge.starts_with("pub fn charge (cents : u64) -> u64 { static OBSERVED"), "{charge}");
        assert!(charge.contains(r#"Site :: at (concat ! (module_path ! () , "::" , "charge"))"#), "{charge}");
        assert!(charge.contains("run . call (move || -> u64 { cents }"), "{charge}");
        assert!(!charge.contains("is_recorded"), "{charge}");
    }

    #[test]
    fn what_gives_back_futures_and_streams_is_told_by_its_type() {
        let how = |item: TokenStream| {
            let text = expanded(quote!(), item);
            ["run . call", "run . run", "run . future", "run . stream"].map(|method| text.matches(method).count())
        };
        assert_eq!(
            how(quote!(
                fn f() -> impl Iterator<Item = u8> {
                    [].into_iter()
                }
            )),
            [1, 0, 0, 0]
        );
        assert_eq!(
            how(quote!(
                async fn f() {}
            )),
            [0, 1, 0, 0]
        );
        assert_eq!(
            how(quote!(
                fn f() -> impl Future<Output = ()> + Send {
                    async move {}
                }
            )),
            [0, 1, 0, 0]
        );
        assert_eq!(
            how(quote!(
                fn f() -> Pin<Box<dyn Future<Output = ()>>> {
                    let x = 1;
                    Box::pin(async move {})
                }
            )),
            [0, 1, 0, 0]
        );
        assert_eq!(
            how(quote!(
                fn f() -> impl core::future::Future<Output = ()> {
                    g()
                }
            )),
            [0, 0, 1, 0]
        );
        assert_eq!(
            how(quote!(
                fn f() -> BoxFuture<'static, ()> {
                    g()
                }
            )),
            [0, 0, 1, 0]
        );
        assert_eq!(
            how(quote!(
                fn f() -> impl Send + Stream<Item = ()> {
                    g()
                }
            )),
            [0, 0, 0, 1]
        );
        assert_eq!(
            how(quote!(
                fn f() -> Pin<Box<dyn Stream<Item = ()> + Send>> {
                    g()
                }
            )),
            [0, 0, 0, 1]
        );
    }

    #[test]
    fn every_key_has_its_part_in_the_site() {
        let site = expanded(
            quote!(name = "charge", fields(id, user.id, "a b" = 1, t = %id, d = ?id), domain = payment, slow = "1.5s", slo = "2s", event),
            quote!(
                fn charge(id: u64, user: &User) {}
            ),
        );
        for part in [
            r#"Site :: named ("charge")"#,
            r#". fields (& ["id" , "user.id" , "a b" , "t" , "d"])"#,
            ". domain (:: buttress :: function :: Domain :: PAYMENT)",
            ". slow (1500000000u64)",
            ". slo (2000000000u64)",
            ". event_of_its_name ()",
            "run . field (0usize , & (id))",
            "run . field (1usize , & (user . id))",
            "run . displayed_field (3usize , & (id))",
            "run . debug_field (4usize , & (id))",
        ] {
            assert!(site.contains(part), "{part} in {site}");
        }
        let own = expanded(
            quote!(domain = crate::SHIPPING, event = "sent", error_type = name),
            quote!(
                fn f() {}
            ),
        );
        assert!(own.contains(". domain (crate :: SHIPPING)") && own.contains(r#". event ("sent")"#), "{own}");
        assert!(own.contains("error_type (output , name)"), "{own}");
    }
}
