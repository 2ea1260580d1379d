"""uploads: folders that are being sent"""

import sqlalchemy as sa
from alembic import op


revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('uploads',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('tenant_id', sa.Text(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['tenant_id'], ['tenants.id'], name=op.f('fk_uploads_tenant_id_tenants')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_uploads'))
    )
    op.create_index(op.f('ix_uploads_tenant_id'), 'uploads', ['tenant_id'])
    op.create_index(op.f('ix_uploads_expires_at'), 'uploads', ['expires_at'])
    op.create_table('upload_files',
    sa.Column('upload_id', sa.Text(), nullable=False),
    sa.Column('path', sa.Text(), nullable=False),
    sa.Column('digest', sa.Text(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('stored', sa.Text(), nullable=True),
    sa.ForeignKeyConstraint(['upload_id'], ['uploads.id'], name=op.f('fk_upload_files_upload_id_uploads')),
    sa.PrimaryKeyConstraint('upload_id', 'path', name=op.f('pk_upload_files'))
    )
    op.create_index(op.f('ix_upload_files_stored'), 'upload_files', ['stored'])


def downgrade() -> None:
    op.drop_table('upload_files')
    op.drop_table('uploads')
