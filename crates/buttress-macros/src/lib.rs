//! The macros of `buttress`, which re-exports and documents them: the attribute with feature `macros`, the derives with
//! `derive`.
#![forbid(unsafe_code)]

mod args;
mod expand;
mod field;
mod function;
mod labels;
#[cfg(test)]
mod misuse;
mod period;
mod shape;

use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, Result, parse_macro_input};

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

#[allow(missing_docs, reason = "as above")]
#[proc_macro_derive(Labels, attributes(label))]
pub fn labels(item: TokenStream) -> TokenStream {
    derived(labels::set(&parse_macro_input!(item as DeriveInput)))
}

#[allow(missing_docs, reason = "as above")]
#[proc_macro_derive(AsLabelValue, attributes(label))]
pub fn as_label_value(item: TokenStream) -> TokenStream {
    derived(labels::value(&parse_macro_input!(item as DeriveInput)))
}

fn derived(derived: Result<proc_macro2::TokenStream>) -> TokenStream {
    derived.unwrap_or_else(syn::Error::into_compile_error).into()
}
