"""Trains Layer Routers on a frozen backbone.

    python -m training.train --config training/configs/smollm2-135m.json --model M.gguf --corpus CORPUS.jsonl.xz --out RUN

RUN gets state.pt (to resume), routers.safetensors (to serve) and log.jsonl (to plot). A run that finds a state.pt goes
on from it.
"""
from __future__ import annotations

import argparse
import json
import os
import time

import torch
from torch.utils.data import DataLoader

from training.attention import Attention
from training.backbone import Backbone
from training.data.batches import Batches
from training.data.corpus import Corpus
from training.data.tasks import GROUP, Builder
from training.objective import Multipliers, Prices, answer_losses, schedule, temperature
from training.router import Routers, ServingGate, StaticGate, TrainingGate, logistic_noise, pool_queries
from training.weights import load


class Trainer:
    def __init__(self, cfg: dict, backbone: Backbone, batches, out: str):
        self.cfg, self.bb, self.batches, self.out = cfg, backbone, batches, out
        torch.manual_seed(cfg["seed"])
        spec, c = backbone.spec, cfg["train"]
        self.routers = Routers(spec.n_layer, spec.head, **cfg["router"]).to(backbone.device)
        if cfg.get("budgets"):
            self.mult = Prices(cfg["budgets"], GROUP, c["price_start"], c.get("price_damping", 0.0)).to(backbone.device)
            self.opt_lambda = torch.optim.SGD(self.mult.parameters(), lr=c["price_lr"], maximize=True)
        else:
            targets = {t: row["target"] for t, row in cfg["tasks"].items()}
            self.mult = Multipliers(targets, c["lambda_start"], cfg["seed"]).to(backbone.device)
            self.opt_lambda = torch.optim.Adam(self.mult.parameters(), lr=c["lambda_lr"], maximize=True)
        self.opt = torch.optim.AdamW(self.routers.parameters(), lr=c["lr"], betas=tuple(c["betas"]),
                                     weight_decay=c["weight_decay"])
        self.step, self.spent_s, self.started = 0, 0.0, False

    def start_from(self, path: str):
        """Weights of a router file that was trained before, for another window or budget perhaps. start_scale < 1 shrinks its
        margins: a finished router is so sure of its decisions that noise no longer turns any."""
        other = Routers.load(path)
        if other.sizes["pool_size"] != self.routers.sizes["pool_size"]:
            raise ValueError(f"{path}: its pool size is {other.sizes['pool_size']}")
        self.routers.load_state_dict(other.state_dict())
        with torch.no_grad():
            for layer in self.routers.layers:
                for p in layer.cls_router_head_agnostic[4].parameters():
                    p.mul_(self.cfg["train"].get("start_scale", 1.0))
        self.started = True

    # -- state ------------------------------------------------------------------------------------------------------
    def path(self, name):
        return os.path.join(self.out, name)

    def save(self):
        state = dict(step=self.step, spent_s=self.spent_s, routers=self.routers.state_dict(),
                     mult=self.mult.state_dict(), opt=self.opt.state_dict(), opt_lambda=self.opt_lambda.state_dict())
        torch.save(state, self.path("state.pt.new"))
        os.replace(self.path("state.pt.new"), self.path("state.pt"))
        self.routers.save(self.path("routers.safetensors"), {"steps": str(self.step)})

    def resume(self) -> bool:
        if not os.path.exists(self.path("state.pt")):
            return False
        s = torch.load(self.path("state.pt"), map_location=self.bb.device, weights_only=True)
        self.routers.load_state_dict(s["routers"])
        self.mult.load_state_dict(s["mult"])
        self.opt.load_state_dict(s["opt"])
        self.opt_lambda.load_state_dict(s["opt_lambda"])
        self.step, self.spent_s = s["step"], s["spent_s"]
        return True

    @torch.no_grad()
    def calibrate(self, n_batches: int):
        """Centres each router's first layer on pooled queries of the training data under the full route."""
        pooled: dict[int, list] = {}

        class Collect:
            def __call__(_, i, q, prompt_len):
                pooled.setdefault(i, []).append(pool_queries(q, prompt_len, self.routers.pool_size))
                return 1
        for b in range(n_batches):
            batch = self.batches[-1 - b].to(self.bb.device)
            self.bb.hidden(batch.tokens, batch.prompt_len, Collect())
        for i, layer in enumerate(self.routers.layers):
            layer.calibrate(torch.cat(pooled[i]))

    # -- one step ---------------------------------------------------------------------------------------------------
    def losses(self, batch, gate, teacher):
        """-> cross-entropy, KL and miss per sample [B], z [B, L]"""
        h, z = self.bb.hidden(batch.tokens, batch.prompt_len, gate)
        return *answer_losses(self.bb.logits(h[batch.rows]), teacher, batch.target, batch.owner, len(batch.task)), z

    @torch.no_grad()
    def teach(self, batch):
        h, _ = self.bb.hidden(batch.tokens, batch.prompt_len, StaticGate([1] * self.bb.spec.n_layer))
        return self.bb.logits(h[batch.rows])

    def train_step(self, batch, progress: float) -> dict:
        c, n = self.cfg["train"], len(batch.task)
        tau = temperature(progress, c["temperature"][0], c["temperature"][1], c["temperature"][2])
        lr = c["lr"] * schedule(progress, c["warmup"], c["final_lr"])
        for g in self.opt.param_groups:
            g["lr"] = lr
        gen = torch.Generator().manual_seed(self.cfg["seed"] * 1_000_003 + self.step)
        noise = logistic_noise((n, self.bb.spec.n_layer), gen, self.bb.device)
        gate = TrainingGate(self.routers, tau, noise, c["hard"])
        ce, kl, miss, z = self.losses(batch, gate, self.teach(batch))
        share = 1 - z.mean(1)
        rows = [self.cfg["tasks"][t] for t in batch.task]
        weight = torch.tensor([[r.get("ce", 0.0), r.get("kl", 1.0), r.get("miss", 0.0)] for r in rows], device=z.device)
        index = self.mult.index(batch.task, z.device)
        quality = (weight * torch.stack((ce, kl, miss), 1)).sum(1)
        loss = (quality + self.mult.penalty(share, index)).mean()
        self.opt.zero_grad(set_to_none=True)
        self.opt_lambda.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.routers.parameters(), c["clip"])
        self.opt.step()
        self.opt_lambda.step()
        self.mult.clamp()
        return self.report(batch, ce, kl, share, quality) | dict(
            loss=float(loss.detach()), grad_norm=float(norm), tau=tau, lr=lr, n_tok=batch.tokens.shape[1],
            lam1=dict(zip(self.mult.tasks, self.mult.lam[0].tolist())),
            lam2=dict(zip(self.mult.tasks, self.mult.lam[-1].tolist())))

    @staticmethod
    def report(batch, ce, kl, share, quality=None) -> dict:
        """Means by task of what one batch showed."""
        table = torch.stack((ce, kl, share)).detach().cpu()
        out: dict = {"ce": {}, "kl": {}, "share": {}}
        for t in sorted(set(batch.task)):
            at = [i for i, x in enumerate(batch.task) if x == t]
            for name, row in zip(("ce", "kl", "share"), table):
                out[name][t] = round(float(row[at].mean()), 5)
        if quality is not None:
            out["quality"] = float(quality.detach().mean())
        return out

    @torch.no_grad()
    def validate(self, n_batches: int) -> dict:
        """Hard, noiseless decisions on batches no step trains on (beyond the last step's index)."""
        total: dict = {"ce": {}, "kl": {}, "share": {}}
        layers: dict = {}
        for b in range(n_batches):
            batch = self.batches[len(self.batches) - 1 - b].to(self.bb.device)
            ce, kl, _, z = self.losses(batch, ServingGate(self.routers), self.teach(batch))
            rep = self.report(batch, ce, kl, 1 - z.mean(1))
            for name in total:
                for t, v in rep[name].items():
                    total[name].setdefault(t, []).append(v)
            for t, row in zip(batch.task, z.cpu()):
                layers.setdefault(GROUP.get(t, t), []).append(row)
        mean = {n: {t: sum(v) / len(v) for t, v in d.items()} for n, d in total.items()}
        mean["full_by_layer"] = {g: torch.stack(v).mean(0).tolist() for g, v in layers.items()}
        return mean

    def run(self, max_seconds: float = 0, workers: int = 0, log=print):
        c = self.cfg["train"]
        if not self.resume() and c["calibration_batches"] and not self.started:
            self.calibrate(c["calibration_batches"])
        loader = DataLoader(torch.utils.data.Subset(self.batches, range(self.step, c["steps"])), batch_size=None,
                            num_workers=workers, prefetch_factor=4 if workers else None)
        before, begin = self.spent_s, time.monotonic()
        with open(self.path("log.jsonl"), "a") as f:
            for batch in loader:
                # With a time limit the schedules follow whichever runs out first, steps or seconds.
                progress = self.step / c["steps"]
                if max_seconds:
                    progress = max(progress, self.spent_s / max_seconds)
                if progress >= 1:
                    break
                row = self.train_step(batch.to(self.bb.device), progress)
                self.step += 1
                self.spent_s = before + time.monotonic() - begin
                row = dict(step=self.step, seconds=round(self.spent_s, 2), **row)
                if self.step % c["validate_every"] == 0:
                    row["valid"] = self.validate(c["validation_batches"])
                f.write(json.dumps(row) + "\n")
                f.flush()
                log(line(row))
                if self.step % c["save_every"] == 0:
                    self.save()
        self.save()


def line(row: dict) -> str:
    """One line of progress: shares of sparse layers are means over the two groups."""
    def group(d, g):
        v = [x for t, x in d.items() if GROUP.get(t) == g]
        return sum(v) / len(v) if v else float("nan")
    out = (f"step={row['step']} s={row['seconds']:.0f} n={row['n_tok']} loss={row['loss']:.3f} "
           f"quality={row['quality']:.3f} tau={row['tau']:.2f} lr={row['lr']:.1e} grad={row['grad_norm']:.2f} "
           f"sparse_retrieval={group(row['share'], 'retrieval'):.2f} sparse_holistic={group(row['share'], 'holistic'):.2f}")
    if "valid" in row:
        v = row["valid"]
        out += "\n  valid " + " ".join(f"{t}:s={v['share'][t]:.2f},kl={v['kl'][t]:.3f},ce={v['ce'][t]:.3f}" for t in v["share"])
    return out


def make_backbone(model: str, router: dict, device: str, compiled: bool, checkpointing: bool):
    spec, weights, tok = load(model)
    cuda = device.startswith("cuda")
    attention = Attention(router["sink_size"], router["local_window_size"], use_flex=cuda)
    if cuda:
        torch._dynamo.config.cache_size_limit = 256
    bb = Backbone(spec, weights, attention, device, torch.bfloat16 if cuda else torch.float32,
                  compiled=compiled and cuda, checkpointing=checkpointing)
    return bb, tok


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--config", required=True)
    ap.add_argument("--model", required=True, help="GGUF file or Hugging Face directory")
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--set", action="append", default=[], metavar="A.B=JSON", help="override a value of the config")
    ap.add_argument("--start", help="router file to start from instead of random weights")
    ap.add_argument("--max-seconds", type=float, default=0, help="training time after which the schedules end")
    ap.add_argument("--workers", type=int, default=4)
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = ap.parse_args()
    with open(a.config) as f:
        cfg = json.load(f)
    for item in a.set:
        where, value = item.split("=", 1)
        node, *keys = cfg, *where.split(".")
        for k in keys[:-1]:
            node = node[k]
        node[keys[-1]] = json.loads(value)
    os.makedirs(a.out, exist_ok=True)
    with open(os.path.join(a.out, "config.json"), "w") as f:
        json.dump(cfg, f, indent=1)
    c = cfg["train"]
    bb, tok = make_backbone(a.model, cfg["router"], a.device, c["compile"], c["checkpointing"])
    builder = Builder(tok, Corpus.read(a.corpus, "train"), cfg["template"])
    spare = max(c["validation_batches"], c["calibration_batches"])
    batches = Batches(builder, {t: r["weight"] for t, r in cfg["tasks"].items()},
                      {int(k): v for k, v in c["buckets"].items()}, c["tokens_per_batch"], cfg["seed"],
                      c["steps"] + spare, pad=c["pad_token"], lm_rows=c["lm_rows"])
    trainer = Trainer(cfg, bb, batches, a.out)
    if a.start:
        trainer.start_from(a.start)
    trainer.run(a.max_seconds, a.workers)


if __name__ == "__main__":
    main()
