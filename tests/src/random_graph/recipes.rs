//! Recipes: what a few nodes may be. A family is a file and a line in [`FAMILIES`].

mod control;
mod elementwise;
mod linear;
mod movement;
mod normalization;
mod patterns;
mod quantization;
mod reduction;
mod sequences;

use super::{Generator, Group};
use crate::random::Random;

/// A few nodes of one kind.
pub(super) struct Recipe {
    pub(super) name: &'static str,
    /// `None` where there is no value that it could read.
    pub(super) make: fn(&mut Generator) -> Option<Group>,
}

static FAMILIES: &[(&str, &[Recipe])] = &[
    ("elementwise", elementwise::RECIPES),
    ("elementwise", elementwise::RECIPES),
    ("linear", linear::RECIPES),
    ("movement", movement::RECIPES),
    ("movement", movement::RECIPES),
    ("normalization", normalization::RECIPES),
    ("patterns", patterns::RECIPES),
    ("patterns", patterns::RECIPES),
    ("quantization", quantization::RECIPES),
    ("reduction", reduction::RECIPES),
    ("sequences", sequences::RECIPES),
    ("control", control::RECIPES),
];

/// How deep bodies are nested.
const DEPTH: usize = 3;

/// One of all recipes; at the depth that bodies may have, none with a body.
pub(super) fn any(random: &mut Random, depth: usize) -> &'static Recipe {
    let families = match depth >= DEPTH {
        true => &FAMILIES[..FAMILIES.len() - 1],
        false => FAMILIES,
    };
    let (_, recipes) = &families[random.below(families.len())];
    &recipes[random.below(recipes.len())]
}

/// Every recipe by name, with its family.
pub fn families() -> impl Iterator<Item = (&'static str, &'static str)> {
    let names = |(family, recipes): &'static (&str, &[Recipe])| {
        recipes.iter().map(move |r| (r.name, *family))
    };
    FAMILIES.iter().flat_map(names)
}
