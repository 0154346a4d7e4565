"""Training losses of the compact world model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wm_planner.config import TrainConfig
from wm_planner.data import Batch
from wm_planner.preprocess import to_tensor
from wm_planner.world_model import Readout, WorldModel


def sigreg(z: Tensor, projections: int, generator: torch.Generator) -> Tensor:
    """Sketched isotropic-Gaussian regulariser (Balestriero & LeCun 2025, LeJEPA, section 4).

    Projects (B, D) latents on random unit directions and compares the empirical
    characteristic function of each projection with that of N(0, 1) (Epps-Pulley statistic).
    It is zero in expectation only when the batch looks like a standard normal, so a
    collapsed or low-rank latent is penalised during the whole training.
    """
    z = z.float()
    directions = torch.randn(z.shape[1], projections, generator=generator).to(z.device)
    directions = directions / directions.norm(dim=0, keepdim=True)
    t = torch.linspace(0.2, 4.0, 16, device=z.device)
    target = torch.exp(-0.5 * t * t)
    angle = (z @ directions)[..., None] * t  # (B, P, T)
    real, imaginary = angle.cos().mean(0), angle.sin().mean(0)
    error = (real - target).square() + imaginary.square()
    # the bias of an empirical characteristic function of B samples is (1 - target^2) / B
    statistic: Tensor = ((error - (1.0 - target * target) / z.shape[0]) * target).sum(-1)
    return statistic.mean()


class WorldModelLoss(nn.Module):
    """All terms in one module, so that DistributedDataParallel sees one forward pass."""

    def __init__(self, model: WorldModel, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(
        self,
        batch: Batch,
        horizon: int,
        context: int,
        generator: torch.Generator,
        snapshots: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch of windows.

        Args:
            batch: pictures of the context and target frames, states and actions of all.
            horizon: open-loop steps; context: real frames before them.
            generator: of the regulariser's directions.
            snapshots: further single pictures for the readout, see ``data.Snapshots``.

        Returns:
            scalar loss and its unweighted terms.
        """
        model, config = self.model, self.config
        device = model.joint_centre.device
        pictures = batch.pictures.to(device)  # (B, F, S, S, 3): context frames, then targets
        b, f = pictures.shape[:2]
        gain = batch.gain.to(device)[:, None, :, None, None]
        normal = to_tensor(pictures.flatten(0, 1), device)
        normal = ((torch.unflatten(normal, 0, (b, f)) + 1.0) * gain - 1.0).clamp_(-1, 1).flatten(0, 1)
        if snapshots is not None:
            normal = torch.cat([normal, to_tensor(snapshots["images"], device)])
        z_all = model.encode(normal.contiguous(memory_format=torch.channels_last))
        z, z_single = torch.unflatten(z_all[: b * f], 0, (b, f)), z_all[b * f :]

        state = model.proprioception(batch.position.to(device), batch.reference.to(device))  # (B, C+H, 2A)
        actions = batch.actions.to(device) / model.action_scale  # (B, C-1+H, A)
        z_pred, s_pred = model.rollout(z[:, :context], state[:, :context], actions[:, : context - 1 + horizon])

        pick = batch.target_step.to(device) - 1  # (B, K) rollout index of each target frame
        rows = torch.arange(b, device=device)[:, None]
        z_hat, z_true = z_pred[rows, pick], z[:, context:]
        truth = model.join_readout(
            Readout(
                batch.position_at.to(device),
                batch.hand_at.to(device),
                batch.objects_at.to(device),
            )
        )  # (B, F, R)
        known = torch.isfinite(truth)
        truth = torch.nan_to_num(truth)

        def readout_error(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            loss = functional.smooth_l1_loss(predicted, target, beta=0.1, reduction="none")
            return (loss * mask).sum() / mask.sum().clamp(min=1)

        terms = {
            "prediction": functional.mse_loss(z_hat, z_true),
            "state": functional.smooth_l1_loss(s_pred, state[:, context : context + horizon], beta=0.1),
            "regulariser": sigreg(z_all, config.projections, generator),
            "readout": readout_error(model.readout_head(z), truth, known),
            "predicted_readout": readout_error(model.readout_head(z_hat), truth[:, context:], known[:, context:]),
        }
        if snapshots is not None:
            single = [snapshots[name].to(device) for name in ("position", "hand", "objects")]
            single_truth = model.join_readout(Readout(*single))
            single_known = torch.isfinite(single_truth)
            single_truth = torch.nan_to_num(single_truth)
            terms["snapshot_readout"] = readout_error(model.readout_head(z_single), single_truth, single_known)
        z_start, z_goal = z[:, context - 1].detach(), z[:, -1].detach()
        proposed = model.propose(z_start, state[:, context - 1], z_goal)
        steps = min(proposed.shape[1], horizon)
        wanted = actions[:, context - 1 : context - 1 + steps].clamp(-1, 1)
        # actions after the goal frame do not lead to it
        valid = torch.arange(steps, device=device)[None] < batch.target_step[:, -1:].to(device)
        prior = functional.smooth_l1_loss(proposed[:, :steps], wanted, beta=0.2, reduction="none").mean(-1)
        terms["prior"] = (prior * valid).sum() / valid.sum()
        weights = {
            "prediction": config.loss_prediction,
            "state": config.loss_state,
            "regulariser": config.loss_regulariser,
            "readout": config.loss_readout,
            "snapshot_readout": config.loss_readout,
            "predicted_readout": config.loss_predicted_readout,
            "prior": config.loss_prior,
        }
        total = sum((weights[name] * term for name, term in terms.items()), torch.zeros((), device=device))
        return total, {name: term.detach() for name, term in terms.items()}
