"""A guidance of one's own: halfway between SDS and CSD.

    python scripts/examples/02_own_guidance.py

Shows which method to override, where the prior's answers are, and that fields become options. The residual is the guided
prediction minus a mixture of the noise that was added (SDS) and the prompt's own prediction (CSD). On the command line its
name is the file and the class: `--guidance scripts/examples/02_own_guidance.py:Halfway --guidance.share 0.3`.
"""

from dataclasses import dataclass

from splatdistill import session
from splatdistill.guidance import SDS


@dataclass(frozen=True)
class Halfway(SDS):
    """Guidance between SDS and CSD: subtracts the noise, the prediction under the prompt alone, or a mean of both."""

    scale: float = 7.5
    """Classifier-free guidance: neg + scale (pos - neg); 1 is the prompt alone."""
    share: float = 0.5
    """Share of the prompt's prediction: 0 is SDS, 1 is CSD at scale - 1."""

    def targetless(self) -> str:
        """Return why `--inner` has no target here; nothing at share 0, which is SDS."""
        return "it subtracts a prediction" if self.share else ""

    def residual(self, view, n, answers, memory):
        """Return the guided prediction minus the mixture; answers[0] is the prompt's."""
        return self.predict(view, answers) - (1 - self.share) * n.eps - self.share * answers[0]


def main(steps: int = 40) -> dict[float, float]:
    """Print how strong the gradient is for three shares, over a few steps."""
    strengths = {}
    for share in (0.0, 0.5, 1.0):
        run = session("a red mushroom", Halfway(share=share), prior="tiny", steps=steps)
        strengths[share] = sum(run.step().grad_norm for _ in range(steps)) / steps
        print(f"share {share}: root mean square of the gradient {strengths[share]:.3f}, mean over {steps} steps")
    return strengths


if __name__ == "__main__":
    main()
