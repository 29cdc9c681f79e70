-- One table or view, from the catalogue alone. One row of JSON, or none.
with relation as materialized (
    select c.*, n.nspname
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
      and c.relname = $table$
      and case when $schema$ is null then pg_catalog.pg_table_is_visible(c.oid)
               else n.nspname = $schema$ end
      and pg_catalog.has_schema_privilege(n.oid, 'usage')
      and pg_catalog.has_any_column_privilege(c.oid, 'select')
    limit 1
)
select pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
    'schema', r.nspname,
    'name', r.relname,
    'kind', case r.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view'
        when 'm' then 'materialized view' when 'f' then 'foreign table' end,
    'comment', pg_catalog.left(pg_catalog.obj_description(r.oid, 'pg_class'), 2000),
    'rows', case when r.relkind <> 'v' and r.reltuples >= 0 then r.reltuples::bigint end,
    'bytes', case when r.relkind in ('r', 'm') then
        (r.relpages::bigint + coalesce((select t.relpages from pg_catalog.pg_class t
            where t.oid = r.reltoastrelid), 0)) * pg_catalog.current_setting('block_size')::bigint end,
    'partition_key', case when r.relkind = 'p' then pg_catalog.pg_get_partkeydef(r.oid) end,
    'definition', case when r.relkind in ('v', 'm') then
        pg_catalog.left(pg_catalog.pg_get_viewdef(r.oid, true), 4000) end,
    'columns', (
        select pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
            'name', a.attname,
            'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
            'not_null', nullif(a.attnotnull, false),
            'default', pg_catalog.left(pg_catalog.pg_get_expr(d.adbin, d.adrelid), 200),
            'identity', nullif(a.attidentity <> '', false),
            'generated', nullif(a.attgenerated <> '', false),
            'values', case when y.typtype = 'e' then (
                select pg_catalog.jsonb_agg(e.enumlabel order by e.enumsortorder)
                from pg_catalog.pg_enum e where e.enumtypid = y.oid) end,
            'comment', pg_catalog.left(pg_catalog.col_description(r.oid, a.attnum), 500)
        )) order by a.attnum)
        from pg_catalog.pg_attribute a
        join pg_catalog.pg_type y on y.oid = a.atttypid
        left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped),
    'primary_key', (
        select keys.names from pg_catalog.pg_constraint k
        cross join lateral (
            select pg_catalog.jsonb_agg(a.attname order by u.n) as names
            from pg_catalog.unnest(k.conkey) with ordinality u(num, n)
            join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.num) keys
        where k.conrelid = r.oid and k.contype = 'p' limit 1),
    'foreign_keys', (
        select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'columns', mine.names,
            'references', k.confrelid::pg_catalog.regclass::text,
            'referenced_columns', theirs.names,
            'definition', pg_catalog.pg_get_constraintdef(k.oid)) order by k.conname)
        from pg_catalog.pg_constraint k
        cross join lateral (
            select pg_catalog.jsonb_agg(a.attname order by u.n) as names
            from pg_catalog.unnest(k.conkey) with ordinality u(num, n)
            join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.num) mine
        cross join lateral (
            select pg_catalog.jsonb_agg(a.attname order by u.n) as names
            from pg_catalog.unnest(k.confkey) with ordinality u(num, n)
            join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.num) theirs
        where k.conrelid = r.oid and k.contype = 'f'),
    'referenced_by', (
        select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'table', k.conrelid::pg_catalog.regclass::text,
            'definition', pg_catalog.pg_get_constraintdef(k.oid))
            order by k.conrelid::pg_catalog.regclass::text, k.conname)
        from pg_catalog.pg_constraint k
        where k.confrelid = r.oid and k.contype = 'f' and k.conparentid = 0),
    'constraints', (
        select pg_catalog.jsonb_agg(pg_catalog.left(pg_catalog.pg_get_constraintdef(k.oid), 500)
            order by k.conname)
        from pg_catalog.pg_constraint k
        where k.conrelid = r.oid and k.contype in ('u', 'c', 'x')),
    'indexes', (
        select pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
            'name', x.relname,
            'definition', pg_catalog.left(pg_catalog.pg_get_indexdef(i.indexrelid), 500),
            'bytes', x.relpages::bigint * pg_catalog.current_setting('block_size')::bigint,
            'invalid', nullif(not i.indisvalid, false),
            'comment', pg_catalog.left(pg_catalog.obj_description(i.indexrelid, 'pg_class'), 200)
        )) order by x.relname)
        from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
        where i.indrelid = r.oid)
))::text
from relation r
