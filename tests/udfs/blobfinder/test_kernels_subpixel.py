"""The pieces of the fit against slow and plain formulas."""

import numpy as np
import pytest

from framefold.udfs.blobfinder import kernels_subpixel as ks


def pixels(half=10):
    y, x = (v.reshape(-1).astype(np.float32) for v in np.mgrid[-half : half + 1, -half : half + 1])
    return y, x


@pytest.mark.parametrize("radius", [3.0, 6.4, 8.0])
@pytest.mark.parametrize("cy, cx", [(0.0, 0.0), (0.3, -0.45), (-0.71, 0.2)])
def test_profile_is_the_share_of_the_pixel(radius, cy, cx):
    y, x = pixels()
    f, fy, fx = (np.empty_like(y) for _ in range(3))
    ks.disk_profile(y, x, cy, cx, radius, 1e-3, f, fy, fx)
    truth = ks.profile_reference(y.astype(float), x.astype(float), cy, cx, radius)
    # a straight edge within a pixel: the curved one differs by 1 / 8 R at most, the grid of points by 1 / 80
    assert np.abs(f - truth).max() < 0.2 / radius
    assert f.sum() == pytest.approx(np.pi * radius**2, rel=2e-3)
    step = 1e-2
    for derivative, dy, dx in ((fy, step, 0.0), (fx, 0.0, step)):
        up, down = np.empty_like(f), np.empty_like(f)
        ks.disk_profile(y, x, cy + dy, cx + dx, radius, 1e-3, up, fy.copy(), fx.copy())
        ks.disk_profile(y, x, cy - dy, cx - dx, radius, 1e-3, down, fy.copy(), fx.copy())
        # the change of the normal's direction within the step is left out: up to 1 / R of it
        assert np.abs((up - down) / (2 * step) - derivative).max() < 0.4 / radius + 0.1


def model(y, x, p, radius):
    b, A, By, Bx, cy, cx = p
    f, fy, fx = (np.empty_like(y) for _ in range(3))
    ks.disk_profile(y, x, cy, cx, radius, 0.3, f, fy, fx)
    u, v = (y - cy) / radius, (x - cx) / radius
    level = A + By * u + Bx * v
    J = np.stack(
        [np.ones_like(f), f, f * u, f * v, level * fy - By / radius * f, level * fx - Bx / radius * f]
    )
    return level * f + b, J, (f, fy, fx)


def unpacked(S, n):
    F = np.zeros((n, n))
    F[np.tril_indices(n)] = S[: n * (n + 1) // 2]
    return F + np.tril(F, -1).T, S[n * (n + 1) // 2 : n * (n + 1) // 2 + n]


def test_sums_are_those_of_the_formulas():
    rng = np.random.default_rng(0)
    y, x = pixels()
    p = (2.0, 20.0, 3.0, -5.0, 0.3, -0.2)
    m, J, (f, fy, fx) = model(y, x, p, 6.0)
    d = rng.poisson(m).astype(np.float32)
    e = (rng.random(len(y)) > 0.1).astype(np.float32)
    S = np.zeros(28)
    ks.sums_tilted(d, e, y, x, f, fy, fx, p[4], p[5], 1 / 6.0, p[1], p[2], p[3], p[0], ks.FLOOR, S)
    F, g = unpacked(S, 6)
    np.testing.assert_allclose(F, ks.fisher_reference(J * np.sqrt(e), m), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(g, (J * e / m) @ (d - m), rtol=1e-3, atol=2e-2)
    assert S[27] == pytest.approx(float((e * (d - m) ** 2 / m).sum()), rel=1e-4)

    plain = np.array([2.0, 20.0, 0.0, 0.0, 0.3, -0.2])
    m, J, _ = model(y, x, plain, 6.0)
    J = J[[0, 1, 4, 5]]
    ks.sums_plain(d, e, f, fy, fx, 20.0, 2.0, ks.FLOOR, S)
    F, g = unpacked(S, 4)
    np.testing.assert_allclose(F, ks.fisher_reference(J * np.sqrt(e), m), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(g, (J * e / m) @ (d - m), rtol=1e-3, atol=2e-2)
    assert S[14] == pytest.approx(float((e * (d - m) ** 2 / m).sum()), rel=1e-4)


@pytest.mark.parametrize("n", [4, 6])
def test_solve_and_variances(n):
    rng = np.random.default_rng(n)
    A = rng.normal(size=(n, n + 3))
    F, g = A @ A.T, rng.normal(size=n)
    S = np.zeros(28)
    S[: n * (n + 1) // 2] = F[np.tril_indices(n)]
    S[n * (n + 1) // 2 :][:n] = g
    L, x = np.zeros((6, 6)), np.zeros(6)
    assert ks.solve_packed(S, n, 0.0, L, x)
    np.testing.assert_allclose(x[:n], np.linalg.solve(F, g), rtol=1e-8)
    np.testing.assert_allclose(ks.last_variances(L, n), np.diag(np.linalg.inv(F))[-2:], rtol=1e-8)


def test_singular_matrix_is_refused():
    S = np.zeros(28)
    S[0] = 1.0
    assert not ks.solve_packed(S, 4, 1e-4, np.zeros((6, 6)), np.zeros(6))


def test_linear_start():
    y, x = pixels()
    f = ks.profile_reference(y.astype(float), x.astype(float), 0.2, 0.1, 6.0).astype(np.float32)
    e = np.ones_like(f)
    A, b = ks.linear_start(17 * f + 3, e, f)
    assert pytest.approx((17.0, 3.0), rel=1e-4) == (A, b)
    assert ks.linear_start(f, 0 * e, f) == (0.0, 0.0)
