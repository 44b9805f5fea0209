//! What is asked of the catalog. `$1` is the schema.

pub(super) const TABLES: &str = "
    SELECT c.relname, greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::int8, pg_relation_size(c.oid),
           c.relkind = 'p' OR c.relispartition, c.relrowsecurity,
           EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent))
    FROM pg_class c
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')";

pub(super) const COLUMNS: &str = "
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.attidentity::text, a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid),
           CASE WHEN a.attcollation <> t.typcollation
                THEN a.attcollation::regcollation::text END,
           pg_get_serial_sequence(format('%I.%I', $1::text, c.relname), a.attname),
           (SELECT pg_sequence_last_value(s.seqrelid::regclass) FROM pg_sequence s
            WHERE s.seqrelid = pg_get_serial_sequence(format('%I.%I', $1::text, c.relname),
                                                      a.attname)::regclass
              AND has_sequence_privilege(s.seqrelid, 'USAGE, SELECT'))
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p')
    ORDER BY c.relname, a.attnum";

pub(super) const CONSTRAINTS: &str = "
    SELECT c.relname, k.conname, k.contype::text,
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (num, at)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num
                 ORDER BY u.at),
           f.relname,
           ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (num, at)
                 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num
                 ORDER BY u.at),
           pg_get_constraintdef(k.oid), pg_get_expr(k.conbin, k.conrelid),
           ARRAY(SELECT a.attname::text FROM pg_index x
                 CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS u (num, at)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num
                 WHERE x.indexrelid = k.conindid AND u.at > x.indnkeyatts AND k.contype = 'u'
                 ORDER BY u.at)
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    LEFT JOIN pg_class f ON f.oid = k.confrelid
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND k.contype IN ('p', 'u', 'c', 'f', 'x') AND k.conparentid = 0
    ORDER BY c.relname, k.conname";

pub(super) const INDEXES: &str = "
    SELECT c.relname, i.relname, x.indisunique, pg_get_indexdef(x.indexrelid)
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class c ON c.oid = x.indrelid
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p') AND x.indisvalid AND NOT i.relispartition
      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid
                      AND k.contype IN ('p', 'u', 'x'))
    ORDER BY c.relname, i.relname";

pub(super) const GRANTS: &str = "
    SELECT c.relname, r.rolname, a.privilege_type
    FROM pg_class c
    CROSS JOIN LATERAL aclexplode(c.relacl) a
    LEFT JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p', 'v', 'm') AND a.grantee <> c.relowner
      AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    ORDER BY c.relname, r.rolname, a.privilege_type";

pub(super) const COLUMN_GRANTS: &str = "
    SELECT c.relname, a.attname, r.rolname, x.privilege_type
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
    CROSS JOIN LATERAL aclexplode(a.attacl) x
    LEFT JOIN pg_roles r ON r.oid = x.grantee
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p') AND x.grantee <> c.relowner
      AND x.privilege_type IN ('SELECT', 'INSERT', 'UPDATE')
    ORDER BY c.relname, a.attnum, r.rolname, x.privilege_type";

pub(super) const TRIGGERS: &str = "
    SELECT c.relname, t.tgname, pg_get_triggerdef(t.oid), p.proname, coalesce(p.prosrc, ''),
           t.tgtype & 3 = 3, t.tgtype & 16 = 16 AND t.tgattr = '',
           ARRAY(SELECT DISTINCT a.attname::text FROM pg_depend d
                 JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                 WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid
                   AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
    FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND NOT t.tgisinternal AND t.tgname NOT LIKE '~evenkeel%'
      AND t.tgenabled <> 'D'
    ORDER BY c.relname, t.tgname";

pub(super) const SPOKEN_OF: &str = "
    SELECT DISTINCT c.relname, a.attname,
           replace(pg_describe_object(d.classid, d.objid, 0), quote_ident($1::text) || '.', '')
    FROM pg_depend d
    JOIN pg_class c ON c.oid = d.refobjid
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.refclassid = 'pg_class'::regclass
      AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p')
      AND (d.classid IN ('pg_policy'::regclass, 'pg_proc'::regclass, 'pg_publication_rel'::regclass)
           OR d.classid = 'pg_attrdef'::regclass AND EXISTS (
               SELECT FROM pg_attrdef f JOIN pg_attribute g
                   ON g.attrelid = f.adrelid AND g.attnum = f.adnum AND g.attgenerated <> ''
               WHERE f.oid = d.objid AND g.attnum <> a.attnum)
           OR d.classid = 'pg_rewrite'::regclass AND EXISTS (
               SELECT FROM pg_rewrite r JOIN pg_class v ON v.oid = r.ev_class
               JOIN pg_namespace n ON n.oid = v.relnamespace
               WHERE r.oid = d.objid AND v.oid <> c.oid AND n.nspname <> $1
                 AND n.nspname NOT IN (SELECT x.schema || '_r' || x.number
                                       FROM evenkeel.revision x)))
    ORDER BY 1, 2, 3";

pub(super) const VIEWS: &str = "
    SELECT c.relname, c.relkind = 'm', pg_get_viewdef(c.oid),
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum),
           coalesce(c.reloptions, '{}'),
           ARRAY(SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t
                 WHERE t.tgrelid = c.oid AND NOT t.tgisinternal ORDER BY t.tgname)
    FROM pg_class c
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('v', 'm')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relname";

pub(super) const READS: &str = "
    SELECT DISTINCT v.relname, c.relname, a.attname
    FROM pg_rewrite r
    JOIN pg_class v ON v.oid = r.ev_class
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    JOIN pg_class c ON c.oid = d.refobjid AND c.relnamespace = v.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                            AND d.refobjsubid > 0
    WHERE v.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND v.relkind IN ('v', 'm') AND c.relkind IN ('r', 'p', 'v', 'm')";

pub(super) const FUNCTIONS: &str = "
    SELECT p.proname, string_agg(coalesce(p.prosrc, ''), ' ' ORDER BY p.oid)
    FROM pg_proc p
    WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
    GROUP BY p.proname ORDER BY p.proname";

pub(super) const ROWS_OF: &str = "
    SELECT p.proname, array_agg(DISTINCT c.relname::text)
    FROM pg_proc p
    JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                    AND d.refclassid = 'pg_type'::regclass
    JOIN pg_type t ON t.oid = d.refobjid
    JOIN pg_class c ON c.oid = coalesce(nullif(t.typrelid, 0),
                                        (SELECT e.typrelid FROM pg_type e WHERE e.oid = t.typelem))
    WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relnamespace = p.pronamespace AND c.relkind IN ('r', 'p')
    GROUP BY p.proname";

pub(super) const VOLATILE: &str = "
    SELECT DISTINCT p.proname FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.provolatile = 'v' AND p.prokind = 'f'
      AND (n.nspname = $1 OR n.nspname NOT IN ('pg_catalog', 'information_schema'))";
