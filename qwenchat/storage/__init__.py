"""What every database of ours needs: connections, explained failures, migrations, read-only use."""
