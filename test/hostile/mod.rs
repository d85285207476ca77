mod attacks;
mod vanishing;
