package bench_test

// What the PostgreSQL engine asks. TestBareCallsAreTheStepsOwn compares each
// statement with those that the functions send.
const (
	roleSQL = `SELECT oid, rolcanlogin, rolsuper, rolinherit, rolreplication, rolbypassrls, rolconnlimit,
		coalesce(rolvaliduntil <> 'infinity', false), coalesce(shobj_description(oid, 'pg_authid'), ''), rolconfig
		FROM pg_roles WHERE rolname = $1`
	triggersSQL = `SELECT evtname::text FROM pg_event_trigger WHERE evtowner = $1`
	cronSQL     = `SELECT coalesce(has_table_privilege(to_regclass('cron.job'), 'SELECT')
		AND has_schema_privilege(to_regnamespace('cron')::oid, 'USAGE'), false)`
	rightsSQL = `SELECT current_setting('server_version_num')::int, r.rolcreaterole, r.rolsuper,
		pg_has_role('pg_read_all_stats', 'USAGE'), pg_has_role('pg_signal_backend', 'USAGE')
		FROM pg_roles r WHERE rolname = current_user`
	settingsSQL = `SELECT coalesce(d.datname, ''), c FROM pg_db_role_setting s
		LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
		WHERE s.setrole = $1 ORDER BY 1, 2`
	maySetSQL = `SELECT has_parameter_privilege($1, 'SET') OR EXISTS (
		SELECT FROM pg_settings WHERE lower(name) = lower($1) AND context IN ('user', 'backend'))`
	roomSQL = `SELECT current_setting('password_encryption'),
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
		(SELECT count(*) FROM pg_stat_activity WHERE usesysid = $1),
		current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
			- coalesce(current_setting('reserved_connections', true)::int, 0),
		(SELECT count(*) FROM pg_stat_activity WHERE datname = $2), coalesce((SELECT datconnlimit FROM pg_database WHERE datname = $2), -1)`
	subscriptionsSQL = `SELECT subname::text FROM pg_subscription WHERE subowner = $1`
	forgottenSQL     = `SELECT gid FROM pg_prepared_xacts WHERE owner = $1::name AND prepared < now() - make_interval(secs => $2)`
	mayReadHBASQL    = `SELECT has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
		AND has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')`
	lsnSQL = `SELECT pg_current_wal_lsn()::text`
	whoSQL = `SELECT session_user::text, current_user::text,
		(SELECT coalesce(rolvaliduntil = 'infinity', true) FROM pg_roles WHERE rolname = session_user)`
	inheritedSQL = `SELECT name, coalesce(setting, '') FROM pg_settings WHERE source IN ('user', 'database user')`
	mayWriteSQL  = `SELECT has_database_privilege(current_database(), 'TEMP') AND pg_current_xact_id() IS NOT NULL`
	headSQL      = `SELECT clock_timestamp(), pg_has_role('pg_read_all_stats', 'USAGE') OR
		(SELECT rolsuper FROM pg_roles WHERE rolname = current_user), current_setting('log_connections')`
	sessionsSQL = `SELECT coalesce(a.application_name, ''), coalesce(host(a.client_addr), 'local'), count(*)::int, array_agg(a.pid)
		FROM pg_stat_activity a WHERE a.backend_type NOT IN ('walsender', 'parallel worker') AND a.pid <> pg_backend_pid() AND (`
	goesSQL = `a.usesysid = ANY($1::oid[])
		OR ($2 AND a.usesysid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.usesysid)))
		GROUP BY 1, 2 ORDER BY 1, 2`
	staysSQL   = `a.usesysid = (SELECT oid FROM pg_roles WHERE rolname = $1) OR a.usesysid = $2) GROUP BY 1, 2 ORDER BY 1, 2`
	sendersSQL = `SELECT coalesce(application_name, '') || '@' || coalesce(host(client_addr), 'local')
		FROM pg_stat_replication WHERE usesysid = ANY($1::oid[])`
	preparedSQL = `SELECT gid FROM pg_prepared_xacts WHERE owner = $1::name
		AND prepared <= clock_timestamp() - make_interval(secs => $2)`
)
