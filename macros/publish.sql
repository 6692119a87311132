{% macro publish_recommendations(results) %}
    {#-
        Export product_recommendations for the lookup and the service, last of all and only when
        `dbt build` ran the mart and every data test of the project, and nothing failed or was
        skipped. DuckDB writes a temporary file and renames it: without use_tmp_file it does so only
        where an older file exists, and a first export that is killed would leave half a table.
        In an object store it does neither: an object appears when its upload is complete.
        The file says which run it was built from, and when, for those who read its product list.
    -#}
    {%- if execute and flags.WHICH == 'build' -%}
        {%- set reason = reason_not_to_publish(results) -%}
        {%- if reason -%}
            {%- do print('Nothing published: ' ~ reason) -%}
        {%- else -%}
            {%- set target_file = lake_path() ~ '/product_recommendations.parquet' -%}
            {%- do run_query(
                "copy (select * from " ~ mart_relation(results)
                ~ " order by product_id, recommendation_rank) to '"
                ~ target_file.replace("'", "''") ~ "' (format parquet, use_tmp_file true, kv_metadata {"
                ~ "run: '" ~ mounted_run() ~ "', built_at: '" ~ run_started_at.isoformat() ~ "'})"
            ) -%}
            {%- do print('Published ' ~ target_file) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{% macro reason_not_to_publish(results) %}
    {#- One line that says why the mart must not be published, an empty string when it may. -#}
    {%- set bad = [] -%}
    {%- set done = [] -%}
    {%- for result in results -%}
        {%- if result.status in ('success', 'pass', 'warn') -%}
            {%- do done.append(result.node.unique_id) -%}
        {%- elif result.status != 'no-op' -%}
            {%- do bad.append(result.node.name ~ ' (' ~ result.status ~ ')') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set left_out = [] -%}
    {%- for node in graph.nodes.values() -%}
        {%- if node.resource_type == 'test' or node.name == 'product_recommendations' -%}
            {%- if node.unique_id not in done -%}
                {%- do left_out.append(node.name) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if flags.EMPTY or flags.SAMPLE -%}
        {{- return('a build with --empty or --sample is a trial') -}}
    {%- elif bad -%}
        {{- return(bad[:5] | join(', ') ~ (' and more' if bad | length > 5 else '')) -}}
    {%- elif left_out -%}
        {{- return(left_out | length ~ ' of the models and tests that vouch for it did not run') -}}
    {%- endif -%}
    {{- return('') -}}
{% endmacro %}


{% macro mart_relation(results) %}
    {%- for result in results if result.node.name == 'product_recommendations' -%}
        {{- return(result.node.relation_name) -}}
    {%- endfor -%}
{% endmacro %}
