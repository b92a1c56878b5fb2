//! The attribute macro of `buttress`, which re-exports it with feature `macros` and documents it there.
#![forbid(unsafe_code)]

mod args;
mod expand;
mod field;
mod function;
#[cfg(test)]
mod misuse;
mod period;
mod shape;

use proc_macro::TokenStream;
use quote::quote;

#[allow(missing_docs, reason = "it is documented where it is re-exported, whose docs would end with these")]
#[proc_macro_attribute]
pub fn observe(args: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    match expand::expand(args.into(), item.clone()) {
        Ok(observed) => observed.into(),
        Err(error) => {
            let error = error.into_compile_error();
            // With the function as it was, so that its callers are not errors too.
            quote!(#error #item).into()
        }
    }
}
