//! What `contrib/` makes: the demo, images, wheels and whole releases.

mod demo;
mod image;
mod release;
mod wheel;
