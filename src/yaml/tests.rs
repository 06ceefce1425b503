//! What texts say, and what is wrong with others. Also random ones: nothing may panic, and what is built is bounded.

use super::*;

