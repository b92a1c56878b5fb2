//! What a function gives back, as far as its text says: a value, a future, a stream.

use proc_macro2::{Group, TokenTree};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Block, Expr, ExprAsync, ExprPath, GenericArgument, Path, PathArguments, ReturnType, Signature, Stmt, Type,
    TypeParamBound,
};

pub(crate) enum Shape {
    /// Done when it returns.
    Plain,
    /// An `async fn`.
    Async,
    /// `impl Future`, or one in a box.
    Future { boxed: bool },
    /// `impl Stream`, or one in a box.
    Stream { boxed: bool },
    /// A body that ends with `async move { .. }`, or with `Box::pin` of one as `async_trait` leaves it.
    Block(AsyncBlock),
}

pub(crate) struct AsyncBlock {
    pub(crate) before: Vec<Stmt>,
    pub(crate) pin: Option<Path>,
    pub(crate) block: ExprAsync,
}

pub(crate) fn of(signature: &Signature, body: &Group) -> Shape {
    if signature.asyncness.is_some() {
        return Shape::Async;
    }
    let ReturnType::Type(_, returned) = &signature.output else { return Shape::Plain };
    let (kind, boxed) = match &**returned {
        Type::ImplTrait(bounds) => (kind(&bounds.bounds), false),
        Type::Path(path) => (boxed_kind(&path.path), true),
        _ => return Shape::Plain,
    };
    match kind {
        None => Shape::Plain,
        Some(Kind::Stream) => Shape::Stream { boxed },
        Some(Kind::Future) => async_block(body).map_or(Shape::Future { boxed }, Shape::Block),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Future,
    Stream,
}

fn kind<'a>(bounds: impl IntoIterator<Item = &'a TypeParamBound>) -> Option<Kind> {
    bounds.into_iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else { return None };
        match bound.path.segments.last()?.ident.to_string().as_str() {
            "Future" => Some(Kind::Future),
            "Stream" => Some(Kind::Stream),
            _ => None,
        }
    })
}

/// Of `Pin<Box<dyn ..>>`, and of the names that `futures` has for it.
fn boxed_kind(path: &Path) -> Option<Kind> {
    match path.segments.last()?.ident.to_string().as_str() {
        "BoxFuture" | "LocalBoxFuture" => Some(Kind::Future),
        "BoxStream" | "LocalBoxStream" => Some(Kind::Stream),
        "Pin" => {
            let Type::Path(boxed) = argument(path)? else { return None };
            let is_box = boxed.path.segments.last().is_some_and(|last| last.ident == "Box");
            let Type::TraitObject(object) = argument(&boxed.path).filter(|_| is_box)? else { return None };
            kind(&object.bounds)
        }
        _ => None,
    }
}

/// The last type among the arguments of a path.
fn argument(path: &Path) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &path.segments.last()?.arguments else { return None };
    arguments.args.iter().rev().find_map(|argument| match argument {
        GenericArgument::Type(argument) => Some(argument),
        _ => None,
    })
}

fn async_block(body: &Group) -> Option<AsyncBlock> {
    let block: Block = syn::parse2(TokenTree::Group(body.clone()).into()).ok()?;
    let mut before = block.stmts;
    let Some(Stmt::Expr(last, None)) = before.pop() else { return None };
    let (pin, block) = match last {
        Expr::Call(call) if call.args.len() == 1 => (Some(box_pin(*call.func)?), call.args.into_iter().next()?),
        block => (None, block),
    };
    match block {
        // Without `move` it borrows what stands before it, and a block around it would not.
        Expr::Async(block) if block.capture.is_some() => Some(AsyncBlock { before, pin, block }),
        _ => None,
    }
}

/// The path, if it is that of `Box::pin`.
fn box_pin(called: Expr) -> Option<Path> {
    let Expr::Path(ExprPath { path, .. }) = called else { return None };
    let mut names = path.segments.iter().rev().map(|segment| segment.ident.to_string());
    let is_it = names.next()? == "pin" && names.next()? == "Box";
    is_it.then_some(path)
}

/// What is returned, as it can be written elsewhere than after the arrow of a function: `impl Trait` is left to be inferred,
/// and a function that never returns is taken for one that returns nothing.
pub(crate) fn returned(output: &ReturnType) -> Type {
    match output {
        ReturnType::Type(_, returned) if !is_never(output) => {
            let mut returned = (**returned).clone();
            Inferred.visit_type_mut(&mut returned);
            returned
        }
        _ => syn::parse_quote!(()),
    }
}

pub(crate) fn is_never(output: &ReturnType) -> bool {
    matches!(output, ReturnType::Type(_, returned) if matches!(**returned, Type::Never(_)))
}

struct Inferred;

impl VisitMut for Inferred {
    fn visit_type_mut(&mut self, inner: &mut Type) {
        match inner {
            Type::ImplTrait(_) => *inner = syn::parse_quote!(_),
            _ => visit_mut::visit_type_mut(self, inner),
        }
    }
}
