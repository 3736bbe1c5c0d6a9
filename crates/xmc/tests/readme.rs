//! The README shows code that compiles.

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let readme = include_str!("../../../README.md");
    let example = include_str!("../examples/library.rs");
    assert!(readme.contains(&format!("```rust\n{example}```")), "README.md and examples/library.rs differ");
}
