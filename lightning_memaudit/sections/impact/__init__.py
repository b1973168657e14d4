"""What each treatment costs, and who pays."""

from lightning_memaudit.sections.impact.section import SECTION, ImpactResult, impact_section

__all__ = ["SECTION", "ImpactResult", "impact_section"]
