//! The gated unit of LLaMA: y = silu(g) u with silu(g) = g s(g) and s(g) = 1 / (1 + e^-g)
//! (Shazeer, "GLU Variants Improve Transformer", 2020).
//!
//!   du = dy g s(g),   dg = dy u s(g) (1 + g (1 - s(g)))

use super::exp::exp_lane;
use super::simd::fma;

/// s(g): from e^-|g|, which never overflows.
#[inline(always)]
fn sigmoid<const FUSED: bool>(g: f32) -> f32 {
    let power = exp_lane::<FUSED>(-g.abs());
    let inverse = 1.0 / (1.0 + power);
    if g < 0.0 { power * inverse } else { inverse }
}

crate::simd! {
    /// y = silu(gate) up.
    pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
            *y = g * sigmoid::<FUSED>(g) * u;
        }
    }

    /// `gate` and `up` become their gradients, given that of y.
    pub fn swiglu_backward(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
        for ((g, u), &dy) in gate.iter_mut().zip(up).zip(dy) {
            let s = sigmoid::<FUSED>(*g);
            let slope = s * fma::<FUSED>(*g, 1.0 - s, 1.0);
            let dg = dy * *u * slope;
            *u = dy * *g * s;
            *g = dg;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silu(g: f64) -> f64 {
        g / (1.0 + (-g).exp())
    }

    #[test]
    fn values_and_slopes_are_those_of_the_formula() {
        let gate: Vec<f32> = (-3000..3000).map(|i| i as f32 * 0.01).collect();
        let up: Vec<f32> = (0..6000).map(|i| ((i * 7) % 11) as f32 * 0.3 - 1.5).collect();
        let dy: Vec<f32> = (0..6000).map(|i| ((i * 5) % 13) as f32 * 0.2 - 1.1).collect();
        let mut y = vec![f32::NAN; gate.len()];
        swiglu(&gate, &up, &mut y);
        let (mut dg, mut du) = (gate.clone(), up.clone());
        swiglu_backward(&mut dg, &mut du, &dy);
        for i in 0..gate.len() {
            let (g, u, d) = (f64::from(gate[i]), f64::from(up[i]), f64::from(dy[i]));
            let close = |found: f32, want: f64| (f64::from(found) - want).abs() < 2e-6 * want.abs().max(1.0);
            assert!(close(y[i], silu(g) * u), "{g} {u}");
            assert!(close(du[i], silu(g) * d), "{g} {d}");
            let slope = (silu(g + 1e-5) - silu(g - 1e-5)) / 2e-5;
            assert!(close(dg[i], slope * u * d), "{g} {u} {d}: {} {}", dg[i], slope * u * d);
        }
    }

    #[test]
    fn the_ends_are_lines_and_nan_stays() {
        let mut y = [9.0; 4];
        swiglu(&[-1e30, -200.0, 200.0, f32::NAN], &[1.0; 4], &mut y);
        assert_eq!(y[..3], [0.0, 0.0, 200.0]);
        assert!(y[3].is_nan());
    }
}
