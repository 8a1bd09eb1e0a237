"""Derivatives of the formulas of the registry, up to the third order; made by `make schema`, not by hand.

Value, first, second and third derivatives, in the order of `derivatives_of`.
"""

# fmt: off
SOURCES: dict[tuple[str, tuple[str, ...]], str] = {
    ("g", ("g",)): """\
def derivatives(g):
    return (
        g,
        1,
        0,
        0,
    )
""",
    ("z1", ("z1",)): """\
def derivatives(z1):
    return (
        z1,
        1,
        0,
        0,
    )
""",
    ("g**2", ("g",)): """\
def derivatives(g):
    return (
        g**2,
        2*g,
        2,
        0,
    )
""",
    ("z1/(sqrt(z2 + eps_root) + eps)", ("z1", "z2")): """\
def derivatives(z1, z2, eps_root, eps):
    x0 = eps_root + z2
    x1 = sqrt(x0)
    x2 = eps + x1
    x3 = x2**(-1.0)
    x4 = (1/2)/(x1*x2**2)
    x5 = 1/(x0**(3/2)*x2**3)
    return (
        x3*z1,
        x3,
        -x4*z1,
        0,
        -x4,
        (1/4)*x5*z1*(eps + 3*x1),
        0,
        0,
        x5*((1/4)*eps + (3/4)*x1),
        -3/8*z1*(eps**2 + 4*eps*x1 + 5*eps_root + 5*z2)/(x0**(5/2)*x2**4),
    )
""",
    ("abs(g)**power", ("g",)): """\
def derivatives(g, power):
    x0 = abs(g)
    x1 = x0**power
    x2 = power - 1
    x3 = x0**x2
    x4 = sign(g)
    x5 = power*x4
    x6 = power*x2*x4**2
    return (
        x1,
        x3*x5,
        x1*x6/g**2,
        x3*x6*(g*x5 - 2*x0)/g**3,
    )
""",
    ("z1/(z2 + eps_root)**(1/power)", ("z1", "z2")): """\
def derivatives(z1, z2, power, eps_root):
    x0 = eps_root + z2
    x1 = power**(-1.0)
    x2 = x0**(-x1)
    x3 = x0**(-x1 - 1)*x1
    x4 = power + 1
    x5 = x0**(-x1 - 2)*x4/power**2
    return (
        x2*z1,
        x2,
        -x3*z1,
        0,
        -x3,
        x5*z1,
        0,
        0,
        x5,
        -x0**(-x1 - 3)*x4*z1*(2*power + 1)/power**3,
    )
""",
    ("(z1 + alpha*z3)/sqrt(z2 + eps_root)", ("z1", "z2", "z3")): """\
def derivatives(z1, z2, z3, alpha, eps_root):
    x0 = eps_root + z2
    x1 = 1/sqrt(x0)
    x2 = alpha*z3
    x3 = x0**(-3/2)
    x4 = (1/2)*x3
    x5 = x0**(-5/2)
    x6 = (3/4)*x5
    return (
        x1*(x2 + z1),
        x1,
        x3*(-1/2*x2 - 1/2*z1),
        alpha*x1,
        0,
        -x4,
        0,
        x5*((3/4)*x2 + (3/4)*z1),
        -alpha*x4,
        0,
        0,
        0,
        0,
        x6,
        0,
        0,
        (-15/8*x2 - 15/8*z1)/x0**(7/2),
        alpha*x6,
        0,
        0,
    )
""",
    ("z1/sqrt(z1**2 + delta)", ("z1",)): """\
def derivatives(z1, delta):
    x0 = z1**2
    x1 = delta + x0
    x2 = 3*delta
    return (
        z1/sqrt(x1),
        delta/x1**(3/2),
        -x2*z1/x1**(5/2),
        x2*(-delta + 4*x0)/x1**(7/2),
    )
""",
}
