PRAGMA application_id = 1296647233;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE damage ( /* finished files that verify found missing or damaged and that were not put right since */
	destination_id INTEGER NOT NULL, 
	found TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	found_at INTEGER NOT NULL, 
	PRIMARY KEY (destination_id), 
	CONSTRAINT damage_found CHECK (found IN ('missing', 'corrupt', 'unreadable')), 
	FOREIGN KEY(destination_id) REFERENCES destination (id) ON DELETE CASCADE
);
INSERT INTO "damage" VALUES(1,'missing','nothing is there',9);
CREATE TABLE destination ( /* one row for each path of the manifests: where the bytes of a task must be */
	id INTEGER NOT NULL, 
	path TEXT NOT NULL /* below the archive URL and below the data root */, 
	task_id INTEGER NOT NULL, 
	dataset TEXT, 
	release TEXT /* the dataset version, such as 202407 */, 
	county TEXT, 
	station_id TEXT, 
	station_name TEXT, 
	qc_version SMALLINT, 
	year SMALLINT, 
	kind TEXT NOT NULL, 
	manifest_id INTEGER NOT NULL /* the manifest that named it first */, 
	line_no INTEGER NOT NULL /* its line in that manifest */, 
	PRIMARY KEY (id), 
	CONSTRAINT destination_kind CHECK (kind IN ('data', 'capability', 'station-metadata', 'change-log', 'station-log', 'other')), 
	UNIQUE (path), 
	FOREIGN KEY(task_id) REFERENCES task (id), 
	FOREIGN KEY(manifest_id) REFERENCES manifest (id)
);
INSERT INTO "destination" VALUES(1,'data/a.csv',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'other',1,1);
INSERT INTO "destination" VALUES(2,'data/b.csv',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'other',1,2);
INSERT INTO "destination" VALUES(3,'data/c.csv',2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'other',1,3);
CREATE TABLE manifest ( /* each load of a manifest, and what it brought */
	id INTEGER NOT NULL, 
	name TEXT NOT NULL /* as it was given to init */, 
	md5 TEXT NOT NULL /* of the manifest itself */, 
	loaded_at INTEGER NOT NULL, 
	selection TEXT NOT NULL /* JSON; {} is everything */, 
	lines INTEGER NOT NULL /* all lines, blank ones and comments too */, 
	rejected INTEGER NOT NULL /* lines that stand in reject */, 
	repeated INTEGER NOT NULL /* lines that say again what an earlier one said */, 
	not_selected INTEGER NOT NULL /* good lines outside the selection */, 
	added INTEGER NOT NULL /* paths that were new to the ledger */, 
	changed INTEGER NOT NULL /* paths whose md5 changed */, 
	unchanged INTEGER NOT NULL /* paths that the ledger had already */, 
	gone INTEGER NOT NULL /* paths of the ledger that this manifest no longer has */, 
	PRIMARY KEY (id)
);
INSERT INTO "manifest" VALUES(1,'old','c6e38c7852aca794d6189e514009a0e4',1795649020628190,'{}',3,0,0,0,3,0,0,0);
CREATE TABLE permit ( /* requests in flight */
	worker_id INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	taken_at INTEGER NOT NULL, 
	start_at INTEGER NOT NULL /* the slot: when its request may start */, 
	PRIMARY KEY (worker_id), 
	FOREIGN KEY(worker_id) REFERENCES worker (id)
);
CREATE TABLE politeness ( /* what everybody knows of a server: when the next request may start */
	host TEXT NOT NULL /* name and port */, 
	next_start_at INTEGER NOT NULL /* the earliest moment for the next request */, 
	paused_until INTEGER NOT NULL /* nobody sends before this */, 
	pause_reason TEXT, 
	consecutive_errors INTEGER NOT NULL, 
	requests INTEGER NOT NULL /* slots handed out so far */, 
	strikes INTEGER NOT NULL /* requests for patience in a row that did not say how much */, 
	successes INTEGER NOT NULL /* files that came so far */, 
	breaker_failures INTEGER NOT NULL /* failures in a row, while the breaker is closed */, 
	breaker_successes INTEGER NOT NULL /* successes of probes, while it is half-open */, 
	breaker_open_since INTEGER NOT NULL /* since when the server is away; 0: it is there */, 
	breaker_open_until INTEGER NOT NULL /* one request tries again then */, 
	breaker_probe_until INTEGER NOT NULL /* one request is trying now */, 
	throttle_share FLOAT NOT NULL /* of the rate that the settings allow */, 
	throttle_reason TEXT /* why it is less than 1 */, 
	throttle_changed_at INTEGER NOT NULL, 
	throttle_window_answers INTEGER NOT NULL /* answers since the last step */, 
	throttle_window_errors INTEGER NOT NULL /* errors among them */, 
	throttle_latency_us FLOAT NOT NULL /* moving average, to the first byte */, 
	throttle_usual_us FLOAT NOT NULL /* the same, over a long time */, 
	throttle_samples INTEGER NOT NULL /* answers that this rests on */, 
	PRIMARY KEY (host)
);
CREATE TABLE reject ( /* the lines of manifests that cannot be used */
	id INTEGER NOT NULL, 
	manifest_id INTEGER NOT NULL, 
	line_no INTEGER NOT NULL, 
	text TEXT NOT NULL /* the line, control characters escaped */, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(manifest_id) REFERENCES manifest (id)
);
CREATE TABLE response ( /* how many requests there were and what came of them; ask the view health */
	run_id INTEGER NOT NULL /* 0: a command outside of a run */, 
	host TEXT NOT NULL, 
	outcome TEXT NOT NULL /* ok, an error class, or untold */, 
	up_to_us INTEGER NOT NULL /* until the first byte, rounded up to two digits; 0: there was no answer */, 
	count INTEGER NOT NULL /* requests */, 
	PRIMARY KEY (run_id, host, outcome, up_to_us)
);
CREATE TABLE run ( /* each run or resume */
	id INTEGER NOT NULL, 
	command TEXT NOT NULL /* run or resume */, 
	version TEXT NOT NULL /* of midasdl */, 
	settings TEXT NOT NULL /* JSON: the settings that resume takes up again */, 
	started_at INTEGER NOT NULL, 
	ended_at INTEGER /* NULL while the run is on, or when it was killed */, 
	exit_code SMALLINT, 
	PRIMARY KEY (id)
);
CREATE TABLE setting ( /* facts about the ledger itself */
	name TEXT NOT NULL /* data_root, archive_url */, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "setting" VALUES('data_root','/srv/midas-open');
CREATE TABLE step ( /* changes of the throttle's share and of the breaker's state, and pauses begun */
	id INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	at INTEGER NOT NULL, 
	what TEXT NOT NULL, 
	from_value TEXT /* share, state or end of the pause before; NULL: there was no pause */, 
	to_value TEXT NOT NULL /* the same from then on */, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT step_what CHECK (what IN ('throttle', 'breaker', 'pause', 'profile', 'workers'))
);
CREATE TABLE task ( /* one row for each distinct md5: bytes to obtain once */
	id INTEGER NOT NULL, 
	md5 TEXT NOT NULL, 
	state TEXT NOT NULL, 
	claim_no INTEGER NOT NULL /* raised by each claim; fences late workers out */, 
	worker_id INTEGER /* who holds the claim, or held the last one */, 
	not_before INTEGER NOT NULL /* a retry waits until then; 0 is at once */, 
	attempts SMALLINT NOT NULL /* requests that counted against max_retries */, 
	size_bytes INTEGER, 
	from_cache SMALLINT /* 1: the bytes were on disk already, no request was made */, 
	error_class TEXT, 
	error TEXT, 
	http_status SMALLINT, 
	manifest_id INTEGER NOT NULL /* the manifest that brought it */, 
	first_claimed_at INTEGER, 
	finished_at INTEGER /* when it became done or failed */, 
	elapsed_us INTEGER /* of the last request, with writing and checking */, 
	PRIMARY KEY (id), 
	CONSTRAINT task_state CHECK (state IN ('pending', 'in_progress', 'done', 'failed')), 
	UNIQUE (md5), 
	FOREIGN KEY(manifest_id) REFERENCES manifest (id)
);
INSERT INTO "task" VALUES(1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','done',1,NULL,0,2,NULL,NULL,NULL,NULL,NULL,1,1,5,NULL);
INSERT INTO "task" VALUES(2,'cccccccccccccccccccccccccccccccc','pending',0,NULL,0,0,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL);
CREATE TABLE transition ( /* changes of state of tasks that did not go straight to done; ask the view history */
	id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	at INTEGER NOT NULL, 
	from_state TEXT NOT NULL, 
	to_state TEXT NOT NULL, 
	worker_id INTEGER, 
	reason TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(task_id) REFERENCES task (id) ON DELETE CASCADE
);
INSERT INTO "transition" VALUES(1,1,1,'pending','in_progress',NULL,NULL);
CREATE TABLE worker ( /* the processes of each run */
	id INTEGER NOT NULL, 
	run_id INTEGER, 
	role TEXT NOT NULL, 
	name TEXT NOT NULL, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	process_started TEXT NOT NULL /* tells a process from a later one with its pid */, 
	started_at INTEGER NOT NULL, 
	heartbeat_at INTEGER NOT NULL, 
	lease_until INTEGER NOT NULL /* its claims and permit may be taken back after this */, 
	state TEXT NOT NULL, 
	ended_at INTEGER, 
	PRIMARY KEY (id), 
	CONSTRAINT worker_role CHECK (role IN ('worker', 'coordinator', 'command')), 
	CONSTRAINT worker_state CHECK (state IN ('alive', 'stopped', 'dead')), 
	FOREIGN KEY(run_id) REFERENCES run (id)
);
CREATE INDEX task_claimable ON task (not_before, id) WHERE state = 'pending';
CREATE INDEX task_claimed ON task (worker_id) WHERE state = 'in_progress';
CREATE INDEX task_failed ON task (error_class) WHERE state = 'failed';
CREATE INDEX worker_alive ON worker (id) WHERE state = 'alive';
CREATE INDEX ix_destination_task_id ON destination (task_id);
CREATE INDEX ix_transition_task_id ON transition (task_id);
COMMIT;
