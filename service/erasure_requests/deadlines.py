"""By when a request must be answered.

GDPR Art. 12(3): one month of receipt. A month that has no such day ends on its last day (Regulation 1182/71, Art. 3).
CCPA, Cal. Civ. Code § 1798.130(a)(2): 45 days. Anything else: 30 days, the strictest common term.
"""

import calendar
from datetime import datetime, timedelta

from service.erasure_requests.schemas import Regulation

DAYS = {Regulation.CCPA: 45, Regulation.OTHER: 30}


def due_at(regulation: Regulation, submitted_at: datetime) -> datetime:
    """The last moment for the answer."""
    if regulation is Regulation.GDPR:
        return _a_month_after(submitted_at)
    return submitted_at + timedelta(days=DAYS[regulation])


def _a_month_after(moment: datetime) -> datetime:
    year, month = moment.year + moment.month // 12, moment.month % 12 + 1
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))
