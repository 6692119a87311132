{% macro publish_build(results) %}
    {#-
        Publish the marts after a `dbt build` that made and tested all that they rest on: their
        files first, then the pointer that readers follow. bought_together/export decides whether
        the build may be published, and moves the pointer.
    -#}
    {%- if execute and flags.WHICH == 'build' -%}
        {%- set facts = build_facts(results) -%}
        {%- set answer = call_function('begin_publish', facts) -%}
        {%- if answer.summary -%}
            {%- do print(answer.summary) -%}
        {%- endif -%}
        {%- if answer.folder -%}
            {%- for mart in ['product_recommendations', 'products', 'recommendation_evidence'] -%}
                {%- set rows = "from " ~ relation_of(mart, results) ~ " order by all" -%}
                {%- do copy_to(rows, answer.folder ~ '/' ~ mart) -%}
            {%- endfor -%}
            {%- do write_state(results, answer.folder ~ '/state') -%}
            {%- set answer = call_function('finish_publish', facts) -%}
        {%- endif -%}
        {%- do print(answer.message) -%}
    {%- endif -%}
{% endmacro %}


{% macro write_state(results, folder) %}
    {#-
        What was counted, for the next build to continue from; bought_together/pairs/state.py. The
        pairs of the Dask engine are copied as they are.
    -#}
    {%- set tables = {
        'products': 'from ' ~ relation_of('int_products_counted', results) ~ ' order by all',
        'basket_sizes': 'from ' ~ relation_of('int_baskets_sized', results) ~ ' order by all',
        'oversized_baskets': 'select order_id, product_count from '
            ~ relation_of('oversized_baskets', results) ~ ' order by all'
    } -%}
    {%- if var('pair_engine') != 'dask' -%}
        {%- do tables.update({
            'product_pairs': 'select left_product_number, right_product_number,'
                ~ ' copurchase_count::integer as copurchase_count from '
                ~ relation_of('int_product_pairs_counted', results)
        }) -%}
    {%- endif -%}
    {%- for table, rows in tables.items() -%}
        {%- do copy_to(rows, folder ~ '/' ~ table ~ '/part-00000') -%}
    {%- endfor -%}
{% endmacro %}


{% macro copy_to(rows, path) %}
    {%- do run_query(
        "copy (" ~ rows ~ ") to " ~ literal(path ~ '.parquet') ~ " (format parquet, parquet_version v2)"
    ) -%}
{% endmacro %}


{% macro build_facts(results) %}
    {%- set nodes, outcomes = {}, {} -%}
    {%- for node in graph.nodes.values() if node.config.enabled -%}
        {%- do nodes.update({node.unique_id: {
            'name': node.name,
            'resource_type': node.resource_type ~ '',
            'package': node.package_name,
            'materialized': node.config.materialized | default(''),
            'depends_on': node.depends_on.nodes | default([], true)
        }}) -%}
    {%- endfor -%}
    {%- for result in results -%}
        {%- do outcomes.update({result.node.unique_id: {
            'status': result.status ~ '',
            'failures': result.failures,
            'execution_time': result.execution_time,
            'message': result.message
        }}) -%}
    {%- endfor -%}
    {%- set started_at = build_started_at() -%}
    {{- return({
        'manifest': {
            'build': started_at.strftime('%Y%m%dT%H%M%SZ') ~ '-' ~ invocation_id[:8],
            'run': mounted_run(),
            'rules': counting_fingerprint(),
            'built_at': started_at.isoformat()
        },
        'measures': measures(results),
        'settings': settings_in_force(),
        'max_basket_products': var('max_basket_products') | int,
        'count': mounted_count(),
        'project': project_name,
        'nodes': nodes,
        'results': outcomes
    }) -}}
{% endmacro %}


{% macro settings_in_force() %}
    {#- The vars that a build depends on, as they are, for people who ask later. -#}
    {%- set found = {} -%}
    {%- for name in [
        'recommendations_per_product', 'min_copurchase_count', 'fill_short_lists', 'as_of',
        'max_basket_products', 'pair_engine', 'max_unlisted_share', 'min_baskets_share',
        'allow_older_data'
    ] -%}
        {%- do found.update({name: var(name) ~ ''}) -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}


{% macro build_started_at() %}
    {#-
        When this build began; if the clock has gone back since the newest build before it, just
        after that one, since builds are ordered by their start.
    -#}
    {%- set newest = run_query(
        "select newest_built_at from " ~ lake_schema() ~ ".mounted_run"
    ).rows[0][0] -%}
    {%- if newest -%}
        {%- set after_newest = modules.datetime.datetime.fromisoformat(newest)
            + modules.datetime.timedelta(microseconds=1) -%}
        {{- return([run_started_at, after_newest] | max) -}}
    {%- endif -%}
    {{- return(run_started_at) -}}
{% endmacro %}


{% macro mounted_count() %}
    {#- What has been counted before this build, and by which rules. -#}
    {%- set row = run_query(
        "select counted_by, folder from " ~ lake_schema() ~ ".mounted_count"
    ).rows[0] -%}
    {{- return({'counted_by': row.counted_by, 'folder': row.folder}) -}}
{% endmacro %}


{% macro measures(results) %}
    {#- What is said of the build, and stands in its manifest; by model, if this build made it. -#}
    {%- set selects = {
        'int_data_measured': 'made',
        'oversized_baskets': 'arg_max(made, made.product_count)',
        'recommendation_changes': 'histogram(made.list_change)',
        'product_changes': 'histogram(made.product_change)',
        'product_recommendations': 'count(*)',
        'products': 'count(*)'
    } -%}
    {%- set found = {} -%}
    {%- for model, select in selects.items() if relation_of(model, results) -%}
        {%- do found.update({model: fromjson(run_query(
            "select coalesce(to_json((select " ~ select ~ " from " ~ relation_of(model, results)
            ~ " as made)), 'null')"
        ).rows[0][0])}) -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}


{% macro relation_of(model, results) %}
    {#- The relation that this build made a model in; None if it did not. -#}
    {%- for result in results if result.node.name == model and result.status == 'success' -%}
        {{- return(result.node.relation_name) -}}
    {%- endfor -%}
{% endmacro %}


{% macro call_function(name, facts) %}
    {#- Return what a function of bought_together/dbt_functions.py does; its error ends dbt. -#}
    {%- set answer = fromjson(
        run_query("select " ~ name ~ "(" ~ literal(tojson(facts)) ~ ")").rows[0][0]
    ) -%}
    {%- if answer.error -%}
        {{- exceptions.raise_compiler_error(answer.error) -}}
    {%- endif -%}
    {{- return(answer) -}}
{% endmacro %}
