//! The JSON objects of the API. Where bytes stand as text there is a second name for them: `value` is there when they are
//! UTF-8, `value_base64` (standard alphabet, padded) when they are not; a request may use either.

use super::Kind::{Flag, List, Number, Object, Perhaps, PerhapsText, Text, Texts, Whole, Word};
use super::{Document, Field, Kind, Presence};

const fn always(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field {
        name,
        kind,
        presence: Presence::Always,
        about,
    }
}

const fn sometimes(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field {
        name,
        kind,
        presence: Presence::Sometimes,
        about,
    }
}

const fn document(name: &'static str, fields: &'static [Field]) -> Document {
    Document { name, fields }
}

const KEY: Field = sometimes("key", Text, "The key, if it is UTF-8.");
const KEY_BASE64: Field = sometimes("key_base64", Text, "The key in base64, if it is not.");
const VALUE: Field = sometimes("value", Text, "The value, if it is UTF-8.");
const VALUE_BASE64: Field = sometimes("value_base64", Text, "The value in base64, if it is not.");
const PREFIX: Field = sometimes("prefix", Text, "Instead of a key: all keys that begin so.");
const FROM: Field = sometimes("from", Text, "Instead of a key: keys from this one on.");
const TO: Field = sometimes("to", Text, "With or without from: keys below this one.");
const REVISION: Field = always("revision", Whole, "The revision of the store behind this.");
const CREATED: Field = always("create_revision", Whole, "The revision that made the key.");
const CHANGED: Field = always("mod_revision", Whole, "The revision that last changed it.");
const VERSION: Field = always("version", Whole, "How often it was put since it was made.");
const OF_LEASE: Field = sometimes("lease", Text, "The lease that it hangs on.");
const LEASE_ID: Field = always("id", Text, "Sixteen hexadecimal digits.");
const TTL: Field = always("ttl_seconds", Number, "How long it lives without renewal.");
const PUT_TTL: Field = sometimes(
    "ttl_seconds",
    Number,
    "The key is deleted by itself after so long.",
);
const PREVIOUS: Field = sometimes("previous", Flag, "Tell what was there before.");

pub(super) static ERROR: Document = document(
    "Error",
    &[
        always("error", Text, "What happened, to what, and what to do."),
        always(
            "code",
            Text,
            "The same for programs; it never changes its meaning.",
        ),
        sometimes(
            "revision",
            Whole,
            "Of a condition that did not hold: the key's revision now; 0: it does not exist.",
        ),
        sometimes(
            "leader",
            Object(&LEADER),
            "Where to ask instead, as far as it is known.",
        ),
    ],
);
static LEADER: Document = document(
    "Leader",
    &[
        always("id", Text, "Its name."),
        always("address", Text, "Where nodes and native clients reach it."),
        always("http", PerhapsText, "Where its HTTP API is."),
    ],
);
pub(super) static FOUND: Document = document("Found", &[KEY, KEY_BASE64, VALUE, VALUE_BASE64, CHANGED_HERE]);
const CHANGED_HERE: Field = always("revision", Whole, "The revision that last changed the key.");

pub(super) static SET: Document = document(
    "Set",
    &[
        KEY,
        KEY_BASE64,
        VALUE,
        VALUE_BASE64,
        PUT_TTL,
        sometimes("lease", Text, "The lease that it is to hang on."),
        sometimes(
            "if_revision",
            Whole,
            "Only if the key was last changed by this revision; 0: only if it does not exist.",
        ),
    ],
);
pub(super) static WRITTEN: Document = document(
    "Written",
    &[
        KEY,
        KEY_BASE64,
        REVISION,
        sometimes(
            "previous",
            Perhaps(&RECORD),
            "What was there before, if that was wanted.",
        ),
    ],
);
pub(super) static DELETED: Document = document(
    "Deleted",
    &[
        KEY,
        KEY_BASE64,
        always("deleted", Flag, "Was there such a key?"),
        REVISION,
        sometimes(
            "previous",
            Perhaps(&RECORD),
            "What was there before, if that was wanted.",
        ),
    ],
);
static RECORD: Document = document(
    "Record",
    &[
        KEY,
        KEY_BASE64,
        VALUE,
        VALUE_BASE64,
        CREATED,
        CHANGED,
        VERSION,
        OF_LEASE,
    ],
);
pub(super) static LISTING: Document = document(
    "Listing",
    &[
        always("kvs", List(&RECORD), "The records, in order."),
        sometimes("count", Whole, "How many keys this answer covers."),
        sometimes(
            "cursor",
            PerhapsText,
            "Where the next page begins; null: this was the last.",
        ),
        sometimes("revision", Whole, "The state that was listed."),
        sometimes("error", Text, "The listing broke off here: it is not whole."),
        sometimes("code", Text, "Why it broke off."),
    ],
);
pub(super) static DELETED_RANGE: Document = document(
    "DeletedRange",
    &[
        always("deleted", Whole, "How many keys."),
        REVISION,
        sometimes("previous", List(&RECORD), "What they were, if that was wanted."),
    ],
);

pub(super) static TXN: Document = document(
    "Txn",
    &[
        sometimes(
            "compare",
            List(&COMPARE),
            "All of these must hold for then to run.",
        ),
        sometimes("then", List(&OP), "Runs if they hold."),
        sometimes("else", List(&OP), "Runs if one does not."),
    ],
);
static COMPARE: Document = document(
    "Compare",
    &[
        KEY,
        KEY_BASE64,
        PREFIX,
        FROM,
        TO,
        sometimes("relation", Word(&["=", "!=", "<", ">"]), "= if it is left out."),
        sometimes("exists", Flag, "Is there such a key?"),
        VALUE,
        VALUE_BASE64,
        sometimes("version", Whole, "Against the version; 0: there is no such key."),
        sometimes(
            "create_revision",
            Whole,
            "Against the revision that made the key.",
        ),
        sometimes(
            "mod_revision",
            Whole,
            "Against the revision that last changed it.",
        ),
        sometimes("lease", PerhapsText, "Against the lease; null: none."),
    ],
);
static OP: Document = document(
    "Operation",
    &[
        sometimes("put", Object(&OP_PUT), "Sets a key."),
        sometimes(
            "increment",
            Object(&INCREMENT),
            "Adds to a whole number in decimal digits.",
        ),
        sometimes("delete", Object(&OP_DELETE), "Deletes a key, or all of a range."),
        sometimes(
            "get",
            Object(&OP_GET),
            "Reads, and sees what came before it here.",
        ),
        sometimes("txn", Object(&TXN), "A transaction inside this one."),
    ],
);
static OP_PUT: Document = document(
    "OperationPut",
    &[
        KEY,
        KEY_BASE64,
        VALUE,
        VALUE_BASE64,
        PUT_TTL,
        OF_LEASE,
        sometimes("keep_lifetime", Flag, "It lives as long as it would have."),
        PREVIOUS,
    ],
);
static OP_DELETE: Document = document("OperationDelete", &[KEY, KEY_BASE64, PREFIX, FROM, TO, PREVIOUS]);
static OP_GET: Document = document(
    "OperationGet",
    &[
        KEY,
        KEY_BASE64,
        PREFIX,
        FROM,
        TO,
        sometimes("limit", Whole, "At most so many."),
        sometimes("keys_only", Flag, "Without the values."),
        sometimes("count_only", Flag, "Only how many."),
    ],
);
pub(super) static INCREMENT: Document = document(
    "Increment",
    &[
        KEY,
        KEY_BASE64,
        sometimes("by", Whole, "1 if it is left out; may be negative."),
    ],
);
pub(super) static INCREMENTED: Document = document(
    "Incremented",
    &[
        KEY,
        KEY_BASE64,
        always("value", Whole, "What it is now."),
        REVISION,
    ],
);
pub(super) static TXN_RESULT: Document = document(
    "TxnResult",
    &[
        always("succeeded", Flag, "Did all compares hold?"),
        REVISION,
        always("results", List(&OP_RESULT), "One for each operation that ran."),
    ],
);
static OP_RESULT: Document = document(
    "OperationResult",
    &[
        sometimes("put", Object(&PUT_RESULT), "Of a put."),
        sometimes("increment", Object(&INCREMENT_RESULT), "Of an increment."),
        sometimes("delete", Object(&DELETE_RESULT), "Of a delete."),
        sometimes("get", Object(&GET_RESULT), "Of a get."),
        sometimes("txn", Object(&NESTED_RESULT), "Of a nested transaction."),
    ],
);
static PUT_RESULT: Document = document(
    "PutResult",
    &[sometimes(
        "previous",
        Object(&RECORD),
        "What was there before, if that was wanted.",
    )],
);
static INCREMENT_RESULT: Document = document("IncrementResult", &[always("value", Whole, "What it is now.")]);
static DELETE_RESULT: Document = document(
    "DeleteResult",
    &[
        always("deleted", Whole, "How many keys."),
        sometimes("previous", List(&RECORD), "What they were, if that was wanted."),
    ],
);
static GET_RESULT: Document = document(
    "GetResult",
    &[
        always("kvs", List(&RECORD), "The records, in order."),
        always("count", Whole, "How many keys there are, whatever the limit."),
    ],
);
static NESTED_RESULT: Document = document(
    "NestedResult",
    &[
        always("succeeded", Flag, "Did all compares hold?"),
        always("results", List(&OP_RESULT), "One for each operation that ran."),
    ],
);

pub(super) static GRANT: Document = document(
    "Grant",
    &[
        TTL,
        sometimes(
            "id",
            Text,
            "Its id, if the client chooses it; hexadecimal digits.",
        ),
    ],
);
pub(super) static LEASE_TTL: Document = document("LeaseTtl", &[LEASE_ID, TTL]);
pub(super) static LEASE: Document = document(
    "Lease",
    &[
        LEASE_ID,
        TTL,
        always(
            "remaining_seconds",
            Number,
            "How long it lives from now on, unless it is renewed.",
        ),
        always("key_count", Whole, "How many keys hang on it."),
        sometimes("keys", List(&ONE_KEY), "Which; told of one lease alone."),
    ],
);
static ONE_KEY: Document = document("Key", &[KEY, KEY_BASE64]);
pub(super) static LEASES: Document = document(
    "Leases",
    &[
        always("leases", List(&LEASE), "Ascending by id."),
        always("cursor", PerhapsText, "For the next page; null: there is none."),
    ],
);
pub(super) static REVOKED: Document = document(
    "Revoked",
    &[
        LEASE_ID,
        always("deleted", Whole, "How many keys went with it."),
        REVISION,
    ],
);

pub(super) static MEMBERS: Document =
    document("Members", &[always("members", List(&MEMBER), "All of them.")]);
static MEMBER: Document = document(
    "Member",
    &[
        always("id", Text, "Its name."),
        always("address", Text, "Where nodes and native clients reach it."),
        always("http", PerhapsText, "Where its HTTP API is."),
        always("voter", Flag, "Does it vote, or only learn?"),
    ],
);
pub(super) static ADD_MEMBER: Document = document(
    "AddMember",
    &[
        always("name", Text, "The node that asks to join."),
        sometimes(
            "address",
            Text,
            "Where it is, if it is not to be believed itself.",
        ),
        sometimes("learner", Flag, "It never votes by itself."),
    ],
);
pub(super) static TRANSFER: Document = document(
    "TransferLeader",
    &[sometimes("to", Text, "Who shall lead; left out: who is best.")],
);
pub(super) static SCRUB: Document = document(
    "Scrub",
    &[
        always(
            "pass",
            Perhaps(&SCRUB_PASS),
            "The pass over all keys that is under way, or was the last that this process saw.",
        ),
        always(
            "differing",
            List(&DIFFERING),
            "Members that were found to have another state than this node.",
        ),
        always(
            "quarantine",
            PerhapsText,
            "Why this node serves no more: a majority has another state.",
        ),
        always(
            "files",
            Perhaps(&CHECKED_FILES),
            "The last look at the checksums of this node's own log and history: one begins with each pass.",
        ),
    ],
);
static CHECKED_FILES: Document = document(
    "CheckedFiles",
    &[
        always("checked_ms_ago", Whole, "How long ago it ended."),
        always("bytes", Whole, "Bytes of entries and events that were read."),
        always("damage", Texts, "What is wrong, in sentences."),
    ],
);
static SCRUB_PASS: Document = document(
    "ScrubPass",
    &[
        always("first_index", Whole, "The log entry that named its first piece."),
        always("last_index", Whole, "The one that named its latest piece."),
        always("began_ms_ago", Whole, "How long ago it began."),
        sometimes(
            "ended_ms_ago",
            Whole,
            "How long ago its last piece was named; left out: it is under way.",
        ),
        always("pieces", Whole, "Pieces that this node hashed."),
        always(
            "left_out",
            Whole,
            "Pieces that it could not hash: the next pass has them.",
        ),
        always("keys", Whole, "Keys that it hashed."),
        always("bytes", Whole, "Bytes of keys and values that it hashed."),
        always(
            "agreed",
            List(&AGREED),
            "The leader: all that had the same; another node: the leader.",
        ),
    ],
);
static AGREED: Document = document(
    "Agreed",
    &[
        always("id", Text, "The member."),
        always("pieces", Whole, "In how many pieces it had the same."),
    ],
);
static DIFFERING: Document = document(
    "Differing",
    &[
        always("id", Text, "The member."),
        always(
            "since_index",
            Whole,
            "The log entry as of which that was first seen.",
        ),
        always(
            "keys",
            PerhapsText,
            "Among which stored keys; null: in what was done.",
        ),
    ],
);

pub(super) static STATUS: Document = document(
    "Status",
    &[
        always("id", Text, "The name of this node."),
        always(
            "role",
            Word(&["leader", "follower", "candidate", "learner"]),
            "What it is.",
        ),
        always("leader", PerhapsText, "Who leads, as far as it knows."),
        always("term", Whole, "The term of the Raft group."),
        always(
            "commit_index",
            Whole,
            "The last log entry that is known to be committed.",
        ),
        always(
            "applied_index",
            Whole,
            "The last one that is part of the state here.",
        ),
        REVISION,
        always("cluster_id", PerhapsText, "The identity of the cluster."),
        always("version", Text, "Of this program."),
        always("members", List(&MEMBER), "All of them."),
    ],
);
pub(super) static READY: Document = document(
    "Ready",
    &[always("ready", Flag, "It knows a leader, and has caught up.")],
);
pub(super) static HEALTHY: Document = document(
    "Healthy",
    &[always("healthy", Flag, "The process and its threads are there.")],
);
pub(super) static DESCRIPTION: Document = document(
    "Description",
    &[always(
        "openapi",
        Text,
        "The version of OpenAPI that this is written in.",
    )],
);
