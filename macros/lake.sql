{% macro require_lake() %}
    {#- Stop a build before its first model where the lake has nothing to read. -#}
    {%- if execute and flags.WHICH in ('build', 'run', 'test') -%}
        {%- do log('Reading run ' ~ mounted_run() ~ ' of the lake', info=true) -%}
        {%- do require_whole_count() -%}
        {%- if var('pair_engine') != 'dask' -%}
            {%- do print('counts     ' ~ run_query(
                "select summary from " ~ lake_schema() ~ ".mounted_count"
            ).rows[0][0]) -%}
        {%- else -%}
            {%- set counted = run_query(
                "select rules, shortlisted from " ~ lake_schema() ~ ".mounted_count"
            ).rows[0] -%}
            {%- if counted.rules != counting_fingerprint() -%}
                {{- exceptions.raise_compiler_error(
                    'the pairs of run ' ~ mounted_run() ~ ' were counted under other rules (a'
                    ~ ' model, a seed or a var has changed): run `python scripts/count_pairs.py`'
                    ~ ' or `make build`'
                ) -}}
            {%- endif -%}
            {%- if counted.shortlisted < var('recommendations_per_product') | int -%}
                {{- exceptions.raise_compiler_error(
                    'the Dask engine has kept ' ~ counted.shortlisted ~ ' pairs of each product: set'
                    ~ ' recommendations_per_product in dbt_project.yml, and run'
                    ~ ' `python scripts/count_pairs.py` or `make build`'
                ) -}}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{% macro require_whole_count() %}
    {#- Tables that were made from one state mean nothing beside those from another. -#}
    {%- set counting = [
        'int_orders_superseded', 'int_orders_resolved', 'int_order_lines_resolved',
        'int_baskets_oversized', 'int_products_numbered', 'int_basket_items',
        'int_products_counted', 'int_baskets_sized'
    ] -%}
    {%- if var('pair_engine') != 'dask' -%}
        {#- With dask it is a view that no other model reads. -#}
        {%- do counting.append('int_product_pairs_counted') -%}
    {%- endif -%}
    {%- set missing = [] -%}
    {%- for model in counting
        if 'model.' ~ project_name ~ '.' ~ model not in selected_resources -%}
        {%- do missing.append(model) -%}
    {%- endfor -%}
    {%- if flags.WHICH != 'test' and missing and missing | length < counting | length -%}
        {{- exceptions.raise_compiler_error(
            'these models are counted together, from one state: ' ~ counting | join(', ')
            ~ '; select all of them or none'
        ) -}}
    {%- endif -%}
{% endmacro %}


{% macro mounted_run() %}
    {#- The run of the lake that the views of source('lake', …) point at. -#}
    {{- return(run_query("select run from " ~ lake_schema() ~ ".mounted_run").rows[0][0]) -}}
{% endmacro %}


{% macro counting_fingerprint() %}
    {#- The rules by which pairs are counted, in short; see bought_together/pairs. -#}
    {%- set vars = {'max_basket_products': var('max_basket_products')} -%}
    {{- return(call_function('counting_fingerprint', {'vars': vars}).fingerprint) -}}
{% endmacro %}


{% macro lake_schema() %}
    {#- In full: the warehouse itself may be called lake. -#}
    {{- return(adapter.quote(target.database) ~ '.lake') -}}
{% endmacro %}
