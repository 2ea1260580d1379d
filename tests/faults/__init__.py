"""What a production Lethe does when its parts die, freeze, lie or go away: processes, servers and stores, for real."""
