"""stages, counters, traces"""

import sqlalchemy as sa
from alembic import op

from migrations import online


revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None

COUNTED = ('claim_conflict', 'lease_lost', 'stale_publish', 'hint_sent', 'hint_failed', 'hint_repeated')
INDEXED = (
    ('erasure_requests', 'state', 'due_at'),
    ('jobs', 'started_at'),
    ('jobs', 'finished_at'),
    ('attempts', 'method', 'verdict'),
    ('versions', 'state', 'size_bytes'),
)
TIMED = ('job_wait', 'job_run', 'stage')


def upgrade() -> None:
    for table, *columns in INDEXED:  # first: each commits by itself, and is made anew if this is broken off
        online.create_index(f'ix_{table}_{columns[0]}', table, columns)
    op.add_column('jobs', sa.Column('traceparent', sa.Text(), nullable=True))
    op.create_table('stages',
    sa.Column('job_id', sa.Text(), nullable=False),
    sa.Column('fence', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('stage', sa.Text(), nullable=False),
    sa.Column('seconds', sa.Double(), nullable=False),
    sa.Column('gpu_peak_bytes', sa.BigInteger(), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_stages_job_id_jobs')),
    sa.PrimaryKeyConstraint('job_id', 'fence', 'attempt', 'stage', name=op.f('pk_stages'))
    )
    spreads = op.create_table('spreads',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('label', sa.Text(), nullable=False),
    sa.Column('at_most', sa.JSON(), nullable=False),
    sa.Column('count', sa.BigInteger(), nullable=False),
    sa.Column('seconds', sa.Double(), nullable=False),
    sa.Column('until', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('name', 'label', name=op.f('pk_spreads'))
    )
    op.bulk_insert(spreads, [{'name': name, 'label': '', 'at_most': [], 'count': 0, 'seconds': 0.0} for name in TIMED])
    counters = op.create_table('counters',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('value', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_counters'))
    )
    op.bulk_insert(counters, [{'name': name, 'value': 0} for name in COUNTED])
    op.create_index(op.f('ix_stages_finished_at'), 'stages', ['finished_at'])


def downgrade() -> None:
    for table, *columns in INDEXED:
        op.drop_index(op.f(f'ix_{table}_{columns[0]}'), table)
    op.drop_table('counters')
    op.drop_table('spreads')
    op.drop_table('stages')
    op.drop_column('jobs', 'traceparent')
