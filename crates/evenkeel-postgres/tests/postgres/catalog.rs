//! What a schema holds, as text: two that hold the same give the same.

use postgres::Client;

use crate::rig::lines;

/// All that is in the schema `public`, a line for each thing. Columns are sorted by their names: where
/// in the row a column lies nobody is promised.
pub(crate) fn dump(client: &mut Client) -> String {
    let dump = lines(client, DUMP);
    let mut sorted: Vec<&str> = dump.lines().collect();
    sorted.sort_unstable();
    sorted.join("\n")
}

/// The lines that only one of two has.
pub(crate) fn differences(one: &str, other: &str) -> String {
    let only = |these: &str, those: &str, sign: &str| {
        let those: Vec<&str> = those.lines().collect();
        let lines = these.lines().filter(|it| !those.contains(it));
        lines.map(|it| format!("{sign} {it}\n")).collect::<String>()
    };
    only(one, other, "+") + &only(other, one, "-")
}

const DUMP: &str = r"
    WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = 'public'),
    rel AS (SELECT c.* FROM pg_class c WHERE c.relnamespace = (SELECT oid FROM here)
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                            AND d.objid = c.oid AND d.deptype = 'e'))
    SELECT format('table %s %s%s', relname, relkind, CASE WHEN relrowsecurity THEN ' rls' END) AS line
    FROM rel WHERE relkind IN ('r', 'p')
    UNION ALL
    SELECT format('column %s.%s %s%s%s%s%s%s', relname, attname, format_type(atttypid, atttypmod),
                  CASE WHEN attnotnull THEN ' not null' END,
                  ' default ' || pg_get_expr(d.adbin, d.adrelid),
                  ' identity ' || nullif(attidentity::text, ''), ' generated ' || nullif(attgenerated::text, ''),
                  CASE WHEN attcollation <> t.typcollation
                       THEN ' collate ' || attcollation::regcollation::text END)
    FROM rel JOIN pg_attribute a ON attrelid = rel.oid AND attnum > 0 AND NOT attisdropped
    JOIN pg_type t ON t.oid = atttypid
    LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
    WHERE relkind IN ('r', 'p')
    UNION ALL
    SELECT format('constraint %s.%s %s', relname, conname, pg_get_constraintdef(k.oid))
    FROM rel JOIN pg_constraint k ON conrelid = rel.oid WHERE contype IN ('c', 'f', 'p', 'u', 'x')
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(indexrelid))
    FROM pg_index JOIN rel ON rel.oid = indexrelid WHERE indisvalid
    UNION ALL
    SELECT format('sequence %s by %s of %s', relname, seqincrement,
                  (SELECT format('%s.%s', d.refobjid::regclass, a.attname) FROM pg_depend d
                   JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = rel.oid
                     AND d.deptype IN ('a', 'i')))
    FROM rel JOIN pg_sequence ON seqrelid = rel.oid
    UNION ALL
    SELECT format('view %s (%s) %s', relname,
                  (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', '
                                     ORDER BY attnum)
                   FROM pg_attribute WHERE attrelid = rel.oid AND attnum > 0),
                  regexp_replace(pg_get_viewdef(rel.oid), '\s+', ' ', 'g'))
    FROM rel WHERE relkind IN ('v', 'm')
    UNION ALL
    SELECT format('function %s %s', p.oid::regprocedure, regexp_replace(prosrc, '\s+', ' ', 'g'))
    FROM pg_proc p WHERE pronamespace = (SELECT oid FROM here)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
    SELECT format('trigger %s', pg_get_triggerdef(t.oid))
    FROM pg_trigger t JOIN rel ON rel.oid = tgrelid WHERE NOT tgisinternal
    UNION ALL
    SELECT format('type %s %s', typname, array_to_string(ARRAY(
                      SELECT enumlabel FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder),
                  ','))
    FROM pg_type t WHERE typnamespace = (SELECT oid FROM here) AND typtype IN ('e', 'd')
    UNION ALL
    SELECT format('policy %s.%s %s %s %s', relname, polname, polcmd, pg_get_expr(polqual, polrelid),
                  pg_get_expr(polwithcheck, polrelid))
    FROM pg_policy JOIN rel ON rel.oid = polrelid
    UNION ALL
    SELECT format('grant %s %s to %s', privilege_type, relname, grantee::regrole)
    FROM rel, aclexplode(relacl) WHERE grantee <> grantor AND grantee <> 0
      AND privilege_type <> 'MAINTAIN'
    UNION ALL
    SELECT format('grant %s %s.%s to %s %s', privilege_type, relname, attname, grantee::regrole, is_grantable)
    FROM rel JOIN pg_attribute a ON attrelid = rel.oid AND NOT attisdropped, aclexplode(attacl)
    UNION ALL
    SELECT format('comment %s: %s', pg_describe_object(classoid, objoid, objsubid), description)
    FROM pg_description
    WHERE (classoid, objoid) IN (
        SELECT 'pg_class'::regclass, oid FROM rel
        UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k JOIN rel ON rel.oid = conrelid
        UNION ALL SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN rel ON rel.oid = tgrelid
        UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s JOIN rel ON rel.oid = stxrelid)
    UNION ALL
    SELECT format('kept %s.%s statistics %s options %s storage %s compression %s', relname, attname,
                  nullif(attstattarget, -1), attoptions, attstorage, attcompression)
    FROM rel JOIN pg_attribute ON attrelid = rel.oid AND attnum > 0 AND NOT attisdropped
    WHERE relkind IN ('r', 'p')
    UNION ALL
    SELECT format('default %s.%s %s', relname, attname, pg_get_expr(adbin, adrelid))
    FROM rel JOIN pg_attrdef ON adrelid = rel.oid
    JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE relkind = 'v'
    UNION ALL
    SELECT format('statistics %s %s of %s (%s)', stxname, stxkind, relname,
                  (SELECT string_agg(attname, ', ' ORDER BY attname) FROM pg_attribute
                   WHERE attrelid = rel.oid AND attnum = ANY (stxkeys::int2[])))
    FROM pg_statistic_ext s JOIN rel ON rel.oid = stxrelid
    UNION ALL
    SELECT format('index %s clustered %s identity %s', indexrelid::regclass, indisclustered, indisreplident)
    FROM pg_index JOIN rel ON rel.oid = indexrelid
    UNION ALL
    SELECT format('trigger %s.%s enabled %s', relname, tgname, tgenabled)
    FROM pg_trigger t JOIN rel ON rel.oid = tgrelid WHERE NOT tgisinternal";
