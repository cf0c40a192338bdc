"""Checks of the golden families of losses: a function is named after its family."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from eigenview.functional.contrast import contrast
from eigenview.functional.similarity import info_nce, unit
from eigenview.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from eigenview.methods.byol import BYOL, BYOLConfig
from eigenview.methods.directclr import DirectCLR, DirectCLRConfig
from eigenview.methods.parts.regression import regression
from eigenview.methods.simclr import SimCLR, SimCLRConfig
from eigenview.methods.simsiam import SimSiam, negative_cosine
from eigenview.methods.vicreg import VICReg, VICRegConfig
from eigenview.views import Views
from tests.golden_file import Golden, gradients


def check_total(g: Golden, key: str, value: Tensor, z: list[Tensor]) -> None:
    g.expect(key, value)
    for name, gradient in zip(("z1", "z2"), gradients(value, *z), strict=True):
        g.expect(f"d{key}_d{name}", gradient)


def vicreg_official(g: Golden) -> None:
    z = g.leaves("z1", "z2")
    single = VICReg(VICRegConfig(invariance=1, variance=1, covariance=1))(Views(z=torch.stack(z))).terms
    for key, term in (("inv", "invariance"), ("var", "variance"), ("cov", "covariance")):
        g.expect(key, single[term])
        if f"d{key}_dz1" in g:
            g.expect(f"d{key}_dz1", gradients(single[term], z[0])[0])
    check_total(g, "total", VICReg()(Views(z=torch.stack(z))).total, z)


def barlow_official(g: Golden) -> None:
    z = g.leaves("z1", "z2")
    weight = g.number("lambda")
    twins = BarlowTwins(BarlowTwinsConfig(off_diagonal=weight))(Views(z=torch.stack(z)))
    g.expect("on_diag", twins.terms["on_diagonal"])
    g.expect("off_diag", twins.terms["off_diagonal"] / weight)
    check_total(g, "total", twins.total, z)


def multiview_fastssl(g: Golden) -> None:
    """The program divides by standard deviations without eps; ours is 1e-30 here."""
    (z,) = g.leaves("z")
    weight, eps = g.number("bt_lambda"), 1e-30
    config = BarlowTwinsConfig(off_diagonal=weight, eps=eps, multiview="mean-view")
    twins = BarlowTwins(config)(Views(z=z))
    g.expect("bt_on_term", twins.terms["on_diagonal"])
    g.expect("bt_off_term", twins.terms["off_diagonal"] / weight)
    g.expect("bt_loss", twins.total)
    g.expect("dbt_dz", gradients(twins.total, z)[0])
    g.expect("bt_loss_l2normalised_inputs", BarlowTwins(replace(config, normalise=True))(Views(z=z)).total)
    options = {"invariance": g.number("vic_lambda"), "variance": g.number("vic_mu"), "eps": eps}
    vic = VICReg(VICRegConfig(**options, multiview="mean-view"))(Views(z=z))
    g.expect("vic_inv_term", vic.terms["invariance"] / options["invariance"])
    g.expect("vic_var_term", vic.terms["variance"] / options["variance"])
    g.expect("vic_cov_term", vic.terms["covariance"])
    g.expect("vic_loss", vic.total)
    g.expect("dvic_dz", gradients(vic.total, z)[0])
    config = SimCLRConfig(temperature=g.number("simclr_temperature"), multiview="mean-view")
    loss = SimCLR(config)(Views(z=z)).total
    g.expect("simclr_loss", loss)
    g.expect("dsimclr_dz", gradients(loss, z)[0])


def ntxent_lightly(g: Golden) -> None:
    z = g.leaves("z1", "z2")
    objective = SimCLR(SimCLRConfig(temperature=g.number("temperature")))
    check_total(g, "ntxent", objective(Views(z=torch.stack(z))).total, z)
    for m in g.matching(r"directclr_dim(\d+)_ntxent"):
        g.expect(m[0], objective(Views(z=torch.stack(z)[..., : int(m[1])])).total)


def ntxent_luckmatters(g: Golden) -> None:
    z = g.leaves("z1", "z2")
    objective = SimCLR(SimCLRConfig(temperature=g.number("temperature")))
    check_total(g, "loss", objective(Views(z=torch.stack(z))).total, z)


def directclr_official(g: Golden) -> None:
    r = g.leaves("r1", "r2")
    d0, temperature = int(g.number("d0")), g.number("temperature")
    loss = DirectCLR(DirectCLRConfig(d0=d0, temperature=temperature))(Views(h=torch.stack(r))).total
    g.expect("loss", loss)
    for name, gradient in zip(("dloss_dr1", "dloss_dr2"), gradients(loss, *r), strict=True):
        g.expect(name, gradient)
    part = [unit(view[:, :d0]) for view in r]
    g.expect("infonce_12", info_nce(part[0], part[1], temperature))
    g.expect("infonce_21", info_nce(part[1], part[0], temperature))
    whole = DirectCLRConfig(site="embedding", temperature=temperature)
    g.expect("loss_full_vector", DirectCLR(whole)(Views(z=torch.stack(r))).total)


def directclr_toy(g: Golden) -> None:
    z = g.leaves("z1", "z2")
    check_total(g, "loss", info_nce(*z, g.number("temperature")), z)  # one way, and dot products of raw vectors


def cosine_byol_simsiam(g: Golden) -> None:
    p1, p2 = g.leaves("p1", "p2")
    z1, z2 = g["z1"], g["z2"]
    p, z = torch.stack([p1, p2]), torch.stack([z1, z2])
    for key, one_way in (("byol", regression), ("simsiam", negative_cosine)):
        g.expect(f"{key}_p1_z2", one_way(p1, z2))
        g.expect(f"d{key}_dp1", gradients(one_way(p1, z2), p1)[0])
    byol = BYOL()(Views(p=p, z_target=z)).total
    g.expect("byol_symmetric_sum", byol)
    g.expect("luckmatters_symmetric_mean", byol - 4)  # it drops the constant
    g.expect("simsiam_symmetric_mean", SimSiam()(Views(p=p, z=z)).total)
    g.expect("byol_l2_p1_z2", regression(p1, z2, normalise=False))
    raw = BYOL(BYOLConfig(normalise=False))(Views(p=p, z_target=z)).total
    other = regression(p2, z1, normalise=False)
    torch.testing.assert_close(raw, g["byol_l2_p1_z2"] + other, rtol=1e-12, atol=0)


def solo_losses(g: Golden) -> None:
    z = g.leaves("z1", "z2", "z3")
    three, two = torch.stack(z), torch.stack(z[:2])
    for m in g.matching(r"simclr_2view_t([\d.]+)"):
        g.expect(m[0], SimCLR(SimCLRConfig(temperature=float(m[1])))(Views(z=two)).total)
    for m in g.matching(r"simclr_3view_t([\d.]+)"):
        pull, log_denominator = contrast(three, float(m[1]), positives="inside")
        loss = log_denominator - pull
        g.expect(m[0], loss)
        g.expect("dsimclr_3view", torch.stack(gradients(loss, *z)))
    single = VICReg(VICRegConfig(invariance=1, variance=1, covariance=1))(Views(z=two)).terms
    g.expect("vicreg_inv", single["invariance"])
    g.expect("vicreg_var_unhalved", 2 * single["variance"])
    g.expect("vicreg_cov", single["covariance"])
    g.expect("vicreg_total", VICReg(VICRegConfig(variance=50))(Views(z=two)).total)
    for m in g.matching(r"barlow_float32_lamb([\d.e+-]+)_scale([\d.e+-]+)"):
        config = BarlowTwinsConfig(off_diagonal=float(m[1]), scale=float(m[2]))
        g.expect(m[0], BarlowTwins(config)(Views(z=two.float())).total, 1e-5)
