//! What the program is built from may be given on under its own licence.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Licences whose terms Apache-2.0 can keep to.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether one of the alternatives of a licence expression is allowed in all of its parts.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" OR ").any(|all| all.split(" AND ").all(|one| ALLOWED.contains(&one.trim())))
}

#[test]
fn every_dependency_has_a_licence_that_fits() {
    assert!(is_allowed("MIT OR GPL-3.0") && is_allowed("MIT/Apache-2.0") && !is_allowed("GPL-3.0"));
    assert!(!is_allowed("MIT AND GPL-3.0") && is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]);
    let output = cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).output().expect("cargo is there");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    assert!(packages.len() > 100, "{} packages", packages.len());
    let name = |package: &Value| format!("{} {}: {}", package["name"], package["version"], package["license"]);
    let wrong: Vec<String> =
        packages.iter().filter(|package| !package["license"].as_str().is_some_and(is_allowed)).map(name).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
