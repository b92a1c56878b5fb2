//! Label sets of structs, and label values of enums.

use std::collections::HashSet;

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::{Attribute, Data, DataEnum, DataStruct, DeriveInput, Error, Fields, Generics, LitStr, Result, parse_quote};

/// `Labels` of a struct: each field is one.
pub(crate) fn set(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Data::Struct(DataStruct { fields: Fields::Named(fields), .. }) = &input.data else {
        return Err(Error::new(name.span(), "`Labels` stand on a struct with named fields, each of which is a label"));
    };
    let mut keys = HashSet::new();
    let mut visits = Vec::new();
    for field in &fields.named {
        let field_name = field.ident.as_ref().expect("the fields are named ones");
        let Some(key) = told(&field.attrs, field_name, |name| name.unraw().to_string())? else { continue };
        if !keys.insert(key.value()) {
            return Err(Error::new(key.span(), format!("the label `{}` is there twice", key.value())));
        }
        visits.push(quote!(
            if let ::std::option::Option::Some(value) = ::buttress::metrics::AsLabelValue::as_label_value(&self.#field_name) {
                visit(#key, value);
            }
        ));
    }
    let generics = bounded(&input.generics);
    let (of, with, provided) = generics.split_for_impl();
    Ok(quote!(
        impl #of ::buttress::metrics::Labels for #name #with #provided {
            fn visit(&self, visit: &mut dyn ::std::ops::FnMut(&str, ::buttress::metrics::LabelValue<'_>)) {
                #(#visits)*
            }
        }
    ))
}

/// `AsLabelValue` of an enum: each variant is a text.
pub(crate) fn value(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Data::Enum(DataEnum { variants, .. }) = &input.data else {
        return Err(Error::new(name.span(), "`AsLabelValue` stands on an enum, whose variants are the values"));
    };
    let mut arms = Vec::new();
    for variant in variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new(variant.ident.span(), "a variant that is the value of a label has no fields"));
        }
        let (ident, text) = (&variant.ident, told(&variant.attrs, &variant.ident, snake_case)?);
        arms.push(match text {
            Some(text) => {
                quote!(Self::#ident => ::std::option::Option::Some(::buttress::metrics::LabelValue::Text(#text)))
            }
            None => quote!(Self::#ident => ::std::option::Option::None),
        });
    }
    let (of, with, provided) = input.generics.split_for_impl();
    Ok(quote!(
        impl #of ::buttress::metrics::AsLabelValue for #name #with #provided {
            fn as_label_value(&self) -> ::std::option::Option<::buttress::metrics::LabelValue<'_>> {
                match *self { #(#arms,)* }
            }
        }
    ))
}

/// The text of a field or a variant; `None` for one that is skipped.
fn told(attributes: &[Attribute], ident: &Ident, default: fn(&Ident) -> String) -> Result<Option<LitStr>> {
    let (mut name, mut is_skipped) = (None, false);
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("label")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                is_skipped = true;
            } else if meta.path.is_ident("name") {
                let text: LitStr = meta.value()?.parse()?;
                if text.value().trim().is_empty() {
                    return Err(Error::new(text.span(), "`name` is empty"));
                }
                name = Some(text);
            } else {
                return Err(meta.error("expected `name = \"tenant.id\"` or `skip`"));
            }
            Ok(())
        })?;
    }
    Ok((!is_skipped).then(|| name.unwrap_or_else(|| LitStr::new(&default(ident), ident.span()))))
}

/// Type parameters are values of labels.
fn bounded(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    generics.type_params_mut().for_each(|param| param.bounds.push(parse_quote!(::buttress::metrics::AsLabelValue)));
    generics
}

/// `NotFound` as `not_found`.
fn snake_case(variant: &Ident) -> String {
    let mut text = String::new();
    for letter in variant.unraw().to_string().chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;

    use super::*;

    fn said(derive: fn(&DeriveInput) -> Result<TokenStream>, item: &str) -> (String, String) {
        let item: DeriveInput = syn::parse_str(item).expect("it is an item");
        let error = derive(&item).expect_err("it is a misuse");
        (error.to_string(), error.span().source_text().unwrap_or_default())
    }

    #[track_caller]
    fn refuses(derive: fn(&DeriveInput) -> Result<TokenStream>, item: &str, message: &str, culprit: &str) {
        let (said, at) = said(derive, item);
        assert!(said.contains(message), "said: {said}");
        assert_eq!(at, culprit, "{said}");
    }

    #[test]
    fn a_misuse_is_told_where_it_is() {
        refuses(set, "enum Placed { Here }", "a struct with named fields", "Placed");
        refuses(set, "struct Placed(u8);", "a struct with named fields", "Placed");
        refuses(set, "struct P { #[label(nmae = \"a\")] a: u8 }", "expected `name", "nmae");
        refuses(set, "struct P { #[label(name = \"\")] a: u8 }", "is empty", "\"\"");
        refuses(set, "struct P { #[label(name = \"b\")] a: u8, b: u8 }", "`b` is there twice", "b");
        refuses(value, "struct Size { small: u8 }", "an enum", "Size");
        refuses(value, "enum Size { Small(u8) }", "has no fields", "Small");
    }

    #[test]
    fn a_variant_is_told_in_snake_case() {
        let told = |name: &str| snake_case(&Ident::new(name, Span::call_site()));
        assert_eq!(["Ok", "NotFound", "Http2"].map(told), ["ok", "not_found", "http2"]);
    }
}
