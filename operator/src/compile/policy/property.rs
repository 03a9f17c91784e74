//! Whoever judges a packet says the same. A sample: `e2e/tests/policies` has more cases, and the kernel's verdicts.

use proptest::prelude::*;

use super::agreement::{Compiled, difference};
use super::worlds::world;

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_difference_is_what_the_reference_evaluator_finds(before in world(), after in world()) {
        difference(before, after)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rows_agree_with_the_reference_evaluator(world in world()) {
        Compiled::of(&world)?.agrees()?;
    }
}
